//! Idle connections to the engine, the last one used first.

use std::sync::{Mutex, PoisonError};
use std::task::Context;

use crate::clock::now_ns;
use crate::connection::Connection;

/// An idle connection older than this is not used again: uvicorn, the server of most engines, closes them after 5 s,
/// and a request sent just then is lost.
const MAX_IDLE_NS: u64 = 4_000_000_000;

/// Most idle connections kept.
const MAX_IDLE: usize = 1024;

#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<(u64, Connection)>>,
}

impl Pool {
    /// Takes an idle connection that is still open; closes those that have become too old.
    pub(crate) fn take(&self, cx: &mut Context<'_>) -> Option<Connection> {
        let oldest_ns = now_ns().saturating_sub(MAX_IDLE_NS);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((since_ns, mut connection)) = idle.pop() {
            if since_ns < oldest_ns {
                idle.clear();
                return None;
            }
            if connection.is_reusable(cx) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, if it can take one.
    pub(crate) fn give(&self, mut connection: Connection, cx: &mut Context<'_>) {
        if !connection.is_reusable(cx) {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push((now_ns(), connection));
        }
    }
}
