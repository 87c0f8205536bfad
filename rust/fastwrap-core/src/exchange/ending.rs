//! The end of a request: one outcome, counted once, and the record of what it cost.

use super::{Exchange, Outcome};
use crate::error::Fault;
use crate::performance::Performance;

impl Exchange {
    pub(super) fn end_with(&mut self, fault: Fault, now_ns: u64) {
        self.context.error_type.get_or_insert(fault.code().into());
        self.end(fault.outcome(), now_ns);
    }

    pub(super) fn end(&mut self, outcome: Outcome, now_ns: u64) {
        if self.ended {
            return;
        }
        let performance = self.record(outcome, now_ns);
        self.count(outcome, now_ns, performance.as_deref());
        self.context.tell_record(performance);
    }

    fn count(&mut self, outcome: Outcome, now_ns: u64, performance: Option<&Performance>) {
        self.ended = true;
        self.context.meter.counters.end(self.route, outcome, performance);
        self.context.meter.end(now_ns);
    }

    /// A panic that may come from the record itself, so that none is made: a second one would end the process.
    fn end_in_panic(&mut self, now_ns: u64) {
        self.context.meter.counters.internal_error();
        if !self.ended {
            self.count(Outcome::Error, now_ns, None);
        }
    }

    /// What is known of a request that ended: what its client was told, if it was, and how it ended. Of one that is not
    /// measured nobody but hooks wants to know.
    pub(super) fn record(&mut self, outcome: Outcome, now_ns: u64) -> Option<Box<Performance>> {
        if self.route.is_none() && self.context.asked.is_none() {
            return None;
        }
        self.context.outcome = outcome;
        self.context.now_ns = now_ns;
        let Some(mut rendered) = self.context.rendered.take() else {
            return Some(Box::new(self.context.performance(&self.timeline)));
        };
        // The client may have left, or the engine died, behind the event that carried the block.
        rendered.set_outcome(outcome, self.context.error_type.take());
        Some(rendered)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let last_seen_ns = self.timeline.last_byte_ns.unwrap_or(self.context.now_ns);
        if std::thread::panicking() {
            self.end_in_panic(last_seen_ns);
        } else if self.context.transit.has_failed() {
            self.end_with(Fault::Internal, last_seen_ns);
        } else {
            self.end(Outcome::Cancelled, last_seen_ns);
        }
    }
}
