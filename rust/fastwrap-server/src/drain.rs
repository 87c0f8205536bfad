//! The two moments of an end: no new requests, and no more time.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Serving.
    Open,
    /// Requests in flight may end; new ones are not taken.
    Closing,
    /// What is still in flight is told so and cut.
    Over,
}

/// Seen by every connection of a server.
pub(crate) struct Drain {
    stage: watch::Sender<Stage>,
    over: AtomicBool,
}

impl Default for Drain {
    fn default() -> Self {
        let (stage, _) = watch::channel(Stage::Open);
        Self { stage, over: AtomicBool::new(false) }
    }
}

impl Drain {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.over.store(stage == Stage::Over, Ordering::Release);
        self.stage.send_replace(stage);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}
