//! Waiting for a time to the microsecond, which open loops need: tokio's own timer counts whole milliseconds.

use std::time::Duration;

use crate::clock::now_ns;

#[cfg(target_os = "linux")]
mod kernel {
    use std::future::poll_fn;
    use std::io;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::net::unix::pipe::Receiver;

    /// A kernel timer, read like a pipe: tokio's safe wrapper of a descriptor that only becomes readable.
    pub(super) struct Timer(Receiver);

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            Ok(Self(Receiver::from_owned_fd_unchecked(timer)?))
        }

        pub(super) async fn sleep(&self, wait: Duration) -> io::Result<()> {
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let value = Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                // Zero would disarm the timer.
                tv_nsec: i64::from(wait.subsec_nanos()).max(1),
            };
            let once = Itimerspec { it_interval: zero, it_value: value };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
            loop {
                poll_fn(|cx| self.0.poll_read_ready(cx)).await?;
                match self.0.try_read(&mut [0; 8]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return result.map(drop),
                }
            }
        }
    }
}

/// Wakes its task at one time after another.
pub(crate) struct Timer {
    #[cfg(target_os = "linux")]
    kernel: Option<kernel::Timer>,
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            kernel: kernel::Timer::new().ok(),
        }
    }

    /// Returns at `due_ns`, or soon if that is past; everybody else gets a turn meanwhile.
    pub(crate) async fn until(&self, due_ns: u64) {
        let wait = Duration::from_nanos(due_ns.saturating_sub(now_ns()));
        if wait.is_zero() {
            return tokio::task::yield_now().await;
        }
        #[cfg(target_os = "linux")]
        if let Some(timer) = &self.kernel
            && timer.sleep(wait).await.is_ok()
        {
            return;
        }
        tokio::time::sleep(wait).await;
    }
}
