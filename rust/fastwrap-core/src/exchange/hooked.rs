//! What hooks are told of a request, where there are any.

use bytes::Bytes;
use http::Response;

use super::context::Context;
use super::{Exchange, Outcome};
use crate::hooks::{Asked, Hook, Hooks, Record};
use crate::performance::Performance;
use crate::timeline::Timeline;

impl Context {
    fn hooked(&self) -> Option<(&dyn Hooks, &Asked)> {
        Some((self.meter.hooks()?, self.asked.as_deref()?))
    }

    fn note(&self, hook: Hook, noted: bool) {
        if !noted {
            self.meter.counters.hook_drop(hook);
        }
    }

    pub(super) fn tell_request(&self) {
        if let Some((hooks, asked)) = self.hooked() {
            self.note(Hook::Request, hooks.request(&self.request_id, asked));
        }
    }

    pub(super) fn tell_first_token(&self, timeline: &Timeline) {
        if let (Some((hooks, asked)), Some(ttft_ms)) = (self.hooked(), timeline.ttft_ms()) {
            let noted = hooks.first_token(&self.request_id, asked, ttft_ms);
            self.note(Hook::FirstToken, noted);
        }
    }

    /// Lets hooks add to a block that is to be written.
    pub(super) fn add_extra(&self, performance: &mut Performance) {
        if let Some((hooks, asked)) = self.hooked() {
            match hooks.enrich(&Record { asked, status: self.status, performance }) {
                Some(extra) => performance.extra = extra,
                None => self.meter.counters.hook_error(Hook::Enrich),
            }
        }
    }

    pub(super) fn tell_record(&mut self, performance: Option<Box<Performance>>) {
        if let (Some(asked), Some(performance)) = (self.asked.take(), performance)
            && let Some(hooks) = self.meter.hooks()
        {
            self.note(Hook::Record, hooks.record(asked, self.status, performance));
        }
    }
}

impl Exchange {
    /// The request's id, and whose key it carries.
    #[must_use]
    pub fn caller(&self) -> (&str, Option<&str>) {
        let key_id = self.context.asked.as_deref().and_then(Asked::key_id);
        (&self.context.request_id, key_id)
    }

    /// A hook refuses the request with this answer, and calls the error so.
    pub fn reject(
        &mut self,
        mut answer: Response<Bytes>,
        error_type: String,
        now_ns: u64,
    ) -> Response<Bytes> {
        self.context.status = Some(answer.status());
        self.context.met_error(error_type);
        self.end(Outcome::Error, now_ns);
        self.tell_page(answer.headers_mut());
        answer
    }
}
