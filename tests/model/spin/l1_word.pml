/*
 * l1_word.pml - L1's lock word: one record, which two keys want, with a writer of each, two readers of one,
 * an evictor, and a deleter by force.
 *
 * What one atomic step does in l1/ (a compare-exchange on the word) is one atomic step here; what happens
 * under far_l1.lock happens between LOCK and UNLOCK, in steps, while the lock-free ones go on beside it.
 *
 * Rules that can be broken: -DEVICT_LOCKED -DGENERATION_IGNORED -DFLIP_THOUGH_DOOMED -DFREED_BY_DELETER
 * -DDOOM_NOT_SEEN -DTEMPORARY_IN_TWO_STEPS. Each is found.
 */
#define FREE    0
#define WRITE   1
#define READY   2
#define CLAIMED 3

#define NOBODY 0
#define KEY    1 /* the readers' */
#define OTHER  2

/* The record: its word, its key, whether the table leads to it, and its bytes: whose they are. */
byte state = FREE, readers = 0, generation = 0, key = NOBODY, bytes = NOBODY;
bool doomed = false, temporary = false, tabled = false, lock = false;
byte quarantine = 0, ended = 0;

#define LOCK   atomic { !lock -> lock = true }
#define UNLOCK lock = false
#ifdef EVICT_LOCKED
#define EVICTABLE (state == READY && !doomed)
#else
#define EVICTABLE (state == READY && readers == 0 && !doomed)
#endif

/* far_l1_block_end(): under the lock. The memory is anybody's from now on. */
inline block_end() {
	d_step {
		assert(readers == 0);
		state = FREE;
		generation = (generation + 1) % 4;
		doomed = false;
		temporary = false;
		key = NOBODY;
		bytes = NOBODY;
	}
}

/* The end of a read loan, of a reader or of a writer that flipped for itself. */
inline read_end() {
	bool frees = false;
#ifdef TEMPORARY_IN_TWO_STEPS
	bool last = false;
	atomic { readers--; last = (readers == 0 && temporary && !doomed); frees = (readers == 0 && doomed) };
	if
	:: last -> doomed = true; frees = true
	:: else
	fi;
#else
	/* The end of the last loan of a temporary and its doom are one step (l1/read.c). */
	atomic {
		readers--;
		if
		:: readers == 0 && temporary && !doomed -> doomed = true; frees = true
#ifdef DOOM_NOT_SEEN
		:: else
#else
		:: readers == 0 && doomed && !frees -> frees = true
		:: else
#endif
		fi
	};
#endif
	if
	:: frees ->
		LOCK;
		if
		:: tabled -> tabled = false /* a temporary */
		:: else -> quarantine--
		fi;
		block_end();
		UNLOCK
	:: else
	fi
}

/* reserve_write, the bytes, and one of three ways out: a flip for readers to come, a flip that is read
 * locked in the same step, or abort; a session that dies aborts. */
proctype writer(byte mine) {
	LOCK;
	if
	:: state == FREE ->
		d_step { key = mine; tabled = true; state = WRITE };
		if
		:: temporary = true
		:: skip
		fi;
		UNLOCK
	:: else -> UNLOCK; goto out
	fi;
	bytes = NOBODY; /* half of it */
	bytes = mine;
	if
	:: goto abort
	:: atomic { /* block_flip() */
#ifndef FLIP_THOUGH_DOOMED
		doomed -> goto abort
	   }
	:: atomic {
		!doomed ->
#endif
		assert(state == WRITE);
		state = READY;
	   }
	:: atomic {
		!doomed ->
		assert(state == WRITE);
		state = READY;
		readers = 1;
	   };
	   assert(bytes == mine && key == mine);
	   read_end();
	   goto out
	fi;
	goto out;
abort:
	LOCK;
	assert(state == WRITE);
	if
	:: doomed -> quarantine--
	:: else -> tabled = false
	fi;
	block_end();
	UNLOCK;
out:
	ended++
}

proctype reader() {
	byte found;
	/* far_l1_table_find(): without the lock. */
	atomic {
		if
		:: tabled && key == KEY -> found = generation
		:: else -> goto out
		fi
	};
	atomic { /* read_lock_try() */
		if
#ifndef GENERATION_IGNORED
		:: generation != found || state == CLAIMED -> goto out
#endif
		:: state != READY || doomed -> goto out
		:: else -> readers++
		fi
	};
	assert(bytes == KEY);
	assert(state == READY);
	assert(bytes == KEY);
	read_end();
out:
	ended++
}

proctype evictor() {
	LOCK;
	if
	:: atomic { EVICTABLE -> state = CLAIMED };
		tabled = false;
		block_end()
	:: atomic { !EVICTABLE -> skip }
	fi;
	UNLOCK;
	ended++
}

/* delete with force: whoever holds it keeps its bytes until he lets go. */
proctype deleter() {
	LOCK;
	if
	:: !tabled || key != KEY -> goto out
	:: else
	fi;
again:
	if
	:: atomic { EVICTABLE -> state = CLAIMED };
		tabled = false;
		block_end()
	:: atomic { !EVICTABLE && doomed -> goto out } /* its last reader was quicker */
	:: atomic { !EVICTABLE && !doomed -> doomed = true };
		tabled = false;
#ifdef FREED_BY_DELETER
		bytes = NOBODY;
#endif
		quarantine++
	fi;
out:
	UNLOCK;
	ended++
}

init {
	atomic {
		run writer(KEY);
		run writer(OTHER);
		run writer(KEY);
		run reader();
		run reader();
		run evictor();
		run deleter()
	};
	ended == 7;
	/* Nothing is lost, and nothing is held. */
	assert(quarantine == 0);
	assert(readers == 0);
	assert(state == FREE || (state == READY && tabled && !doomed));
	assert(!lock)
}
