//! A runtime's timers.

use std::time::Duration;

pub use fastwrap_clock::now_ns;

/// Runs for ever beside what a runtime serves.
///
/// tokio wakes its own reactor, by a write to an eventfd and one more turn, whenever a timer is set that is due before all
/// others: without this, each request's timeout. A timer that is always due within a second spares all of them that.
pub async fn tick() {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
