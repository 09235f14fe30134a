/*
 * slot_lane.pml - slot, lane, reuse: a reader with an arbitrary pause between any two of its steps, a writer
 * whose WRITE is on its way for as long as it likes, a second one, and a donor that clears, moves, takes
 * lanes back, gives them out again, and dies and comes back over the same memory, with the same addresses
 * and remote keys.
 *
 * Two lanes of one block each; a block is two lines, so that a READ can see half of it. One key is looked
 * for; all else is other keys'. The slot of the key is one line: read and written in one step (a torn one is
 * read again, which is the same as reading it later).
 *
 * Rules that can be broken: -DUNFENCED -DGENERATION_REPEATS -DNOT_REREAD -DCOPIED_AFTER_SLOT
 * -DCLEARED_AFTER_REUSE -DLANE_GIVEN_EARLY -DCOMMIT_OVERTAKES -DEPOCH_IGNORED. Each is found.
 */
#define NOBODY  0
#define KEY     1
#define OTHER   2

#define NONE    2 /* no lane */
#define LANES   2

/* The donor's memory. */
typedef block { byte line[2] };
block memory[LANES];
byte slot_lane = NONE, slot_generation = 0; /* the key's slot; NONE: empty */
byte generation = 0, epoch = 0;

/* Registrations for writing, of the key's first writer, of the other's, of the key's second one; and what the
 * donor believes: who holds a lane, and whether a slot names it, the key's or another's. Free: neither. */
typedef rights { bool by[4] };
rights may_write[LANES];
byte owner[LANES];
bool named[LANES];

byte moves = 2, deaths = 1, clears = 2;

/* COMMITs on their way, behind the WRITEs of their senders: epoch of the link, writer, lane. */
chan commits = [4] of { byte, byte, byte };

/* Generations never repeat within an epoch; a new epoch starts anew. */
inline slot_store(at) {
	d_step {
#ifndef GENERATION_REPEATS
		generation++;
#endif
		slot_generation = generation;
		slot_lane = at
	}
}

#define FREE(l) (owner[l] == NOBODY && !named[l])

/* The way back of a lane: its registration is gone before anybody else can have it. */
inline lane_fence(l, who) {
#ifdef LANE_GIVEN_EARLY
	owner[l] = NOBODY;
	may_write[l].by[who] = false
#else
	may_write[l].by[who] = false;
	owner[l] = NOBODY
#endif
}

/* Is granted a lane, writes a block of its key, line by line, and commits it. Whether a line lands is decided
 * when it lands, by the registration of then; where it does not, the link is lost, and nothing is said behind
 * it. Between any two steps it may stand still for as long as it likes. */
proctype writer(byte me; byte mine) {
	byte lane, link;
	if
	:: atomic { FREE(0) -> lane = 0; owner[0] = me; may_write[0].by[me] = true; link = epoch }
	:: atomic { FREE(1) -> lane = 1; owner[1] = me; may_write[1].by[me] = true; link = epoch }
	:: goto out
	fi;
#ifdef COMMIT_OVERTAKES
	commits!link, me, lane;
#endif
	if
	:: atomic { may_write[lane].by[me] -> memory[lane].line[0] = mine }
	:: atomic { !may_write[lane].by[me] -> goto out }
	fi;
	if
	:: atomic { may_write[lane].by[me] -> memory[lane].line[1] = mine }
	:: atomic { !may_write[lane].by[me] -> goto out }
	fi;
#ifndef COMMIT_OVERTAKES
	commits!link, me, lane;
#endif
out:
	skip
}

proctype donor() {
	byte link, who, lane;
	do
	:: commits?link, who, lane ->
		if
		:: link == epoch && owner[lane] == who ->
			if
			:: who == OTHER -> named[lane] = true
			:: who != OTHER && slot_lane == NONE -> named[lane] = true; slot_store(lane)
			:: else /* the key is there already */
			fi;
			lane_fence(lane, who)
		:: else /* of a dead lane: dropped */
		fi
	/* A lane is taken back from who stands still. */
	:: atomic { owner[0] != NOBODY -> lane = 0; who = owner[0] }; lane_fence(lane, who)
	:: atomic { owner[1] != NOBODY -> lane = 1; who = owner[1] }; lane_fence(lane, who)
	/* Eviction: the slot is cleared, then its lane may be written again. */
	:: atomic { slot_lane != NONE && clears > 0 && owner[slot_lane] == NOBODY -> clears--; lane = slot_lane };
#ifdef CLEARED_AFTER_REUSE
		named[lane] = false;
		slot_lane = NONE
#else
		slot_lane = NONE;
		named[lane] = false
#endif
	/* Another key's block goes. */
	:: atomic { clears > 0 && named[0] && slot_lane != 0 && owner[0] == NOBODY -> clears--; named[0] = false }
	:: atomic { clears > 0 && named[1] && slot_lane != 1 && owner[1] == NOBODY -> clears--; named[1] = false }
	/* A hot block is moved: copied and published, then its slot points there; then its old place is free. */
	:: atomic { slot_lane != NONE && moves > 0 && owner[slot_lane] == NOBODY && FREE(1 - slot_lane) ->
		    moves--; lane = slot_lane; named[1 - lane] = true };
#ifdef COPIED_AFTER_SLOT
		slot_store(1 - lane);
#endif
		memory[1 - lane].line[0] = memory[lane].line[0];
		memory[1 - lane].line[1] = memory[lane].line[1];
#ifndef COPIED_AFTER_SLOT
		slot_store(1 - lane);
#endif
		named[lane] = false
	/* It dies and is there again: everything is free, the registrations of its former life are gone. */
	:: atomic { deaths > 0 ->
		    deaths--; epoch++; generation = 0; slot_lane = NONE; slot_generation = 0;
		    owner[0] = NOBODY; owner[1] = NOBODY; named[0] = false; named[1] = false;
		    may_write[0].by[1] = false; may_write[0].by[2] = false; may_write[0].by[3] = false;
		    may_write[1].by[1] = false; may_write[1].by[2] = false; may_write[1].by[3] = false }
	:: break
	od
}

/* A reader that remembers a slot from whenever, reads its bytes line by line, and looks again. */
proctype reader() {
	byte lane, at_generation, at_epoch, first, second;
	byte now_lane, now_generation, now_epoch;

	if
	:: atomic { slot_lane != NONE -> lane = slot_lane; at_generation = slot_generation; at_epoch = epoch }
	:: goto out
	fi;
	/* READs sample lines in any order, at any time. */
#ifdef UNFENCED
	atomic { now_lane = slot_lane; now_generation = slot_generation };
	now_epoch = epoch;
#endif
	if
	:: first = memory[lane].line[0]; second = memory[lane].line[1]
	:: second = memory[lane].line[1]; first = memory[lane].line[0]
	fi;
#ifndef UNFENCED
	atomic { now_lane = slot_lane; now_generation = slot_generation };
	now_epoch = epoch;
#endif
	if
#ifndef NOT_REREAD
	:: now_lane != lane || now_generation != at_generation -> skip /* stale: a miss, or followed */
#endif
#ifndef EPOCH_IGNORED
	:: now_epoch != at_epoch -> skip
#endif
	:: else -> assert(first == KEY && second == KEY)
	fi;
out:
	skip
}

init {
	atomic {
		run writer(KEY, KEY);
		run writer(OTHER, OTHER);
		run writer(3, KEY); /* a second writer of the key */
		run donor();
		run reader()
	}
}
