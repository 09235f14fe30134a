/* prefetch_record.c - what the recorder is told of prefetching: one record per batch and way. */
#include "controllers/prefetch_priv.h"

#include "base/mark.h"

void
far_prefetch_tell_begun(struct far_prefetch *ctl, const struct far_prefetch_req *req)
{
	struct far_record record = {
		.request_id = req->request_id,
		.keys = req->count,
		.session = req->session,
		.kind = FAR_RECORD_PREFETCH_SUBMITTED,
		.adapter = FAR_RECORD_NO_ADAPTER,
	};

	far_recorder_add(ctl->config.recorder, &record);
}

/* By why its keys are what they are: what is readable, and each reason for what is not. */
void
far_prefetch_tell_ended(struct far_prefetch *ctl, const struct far_prefetch_req *req)
{
	struct far_record like = {
		.at_ns = ctl->tick_ns,
		.request_id = req->request_id,
		.session = req->session,
		.kind = FAR_RECORD_PREFETCH_MISSED,
		.adapter = FAR_RECORD_NO_ADAPTER,
	};
	struct far_record ended = like;

	if (ctl->config.recorder == NULL)
		return;
	ended.kind = FAR_RECORD_PREFETCH_ENDED;
	ended.why = (int16_t)req->rc;
	for (uint32_t i = 0; i < req->count; i++) {
		const struct far_prefetch_view *view = &req->views[i];

		if (view->rc == 0) {
			ended.keys++;
			ended.bytes += view->size_bytes;
			continue;
		}
		like.why = (int16_t)view->rc;
		far_record_tally_add(&ctl->tally, ctl->config.recorder, &like, 0);
	}
	far_record_tally_flush(&ctl->tally, ctl->config.recorder);
	far_recorder_add(ctl->config.recorder, &ended);
}

void
far_prefetch_tell_asked(struct far_prefetch *ctl, const struct far_l2_task *task,
			enum far_record_kind kind, uint64_t request_id, uint64_t now_ns)
{
	struct far_record record = {
		.at_ns = now_ns,
		.request_id = request_id,
		.keys = task->count,
		.session = ctl->session,
		.kind = (uint16_t)kind,
		.adapter = (int16_t)task->l2->idx,
	};

	if (ctl->config.recorder == NULL)
		return;
	for (uint32_t i = 0; i < task->count; i++)
		record.bytes += task->items[i].size_bytes;
	far_recorder_add(ctl->config.recorder, &record);
}

void
far_prefetch_tell_answered(struct far_prefetch *ctl, const struct far_l2_task *task,
			   enum far_record_kind kind, uint64_t request_id, uint64_t since_ns)
{
	struct far_record like = {
		.request_id = request_id,
		.session = ctl->session,
		.kind = (uint16_t)kind,
		.adapter = (int16_t)task->l2->idx,
	};
	struct far_record ok;

	if (ctl->config.recorder == NULL)
		return;
	like.at_ns = far_clock_now(ctl->clock);
	like.took_ns = like.at_ns - since_ns;
	ok = like;
	/* Most go one way: that one is summed here, without the tally's look at its rows. */
	for (uint32_t i = 0; i < task->count; i++) {
		const struct far_l2_item *item = &task->items[i];

		if (item->rc == 0) {
			ok.keys++;
			ok.bytes += item->size_bytes;
			continue;
		}
		like.why = (int16_t)item->rc;
		far_record_tally_add(&ctl->tally, ctl->config.recorder, &like, 0);
	}
	if (ok.keys > 0)
		far_recorder_add(ctl->config.recorder, &ok);
	far_record_tally_flush(&ctl->tally, ctl->config.recorder);
}

/* The task's end flushes them: one record, however many they were. */
void
far_prefetch_tell_abandoned(struct far_prefetch *ctl, const struct prefetch_load *load, int why)
{
	struct far_record like = {
		.request_id = load->window->request_id,
		.session = ctl->session,
		.kind = FAR_RECORD_PREFETCH_ABANDONED,
		.why = (int16_t)why,
		.adapter = FAR_RECORD_NO_ADAPTER,
	};

	ctl->counts.loads_abandoned++;
	FAR_MARK("a load ended that nobody wanted any more");
	if (ctl->config.recorder != NULL)
		far_record_tally_add(&ctl->tally, ctl->config.recorder, &like, load->size_bytes);
}
