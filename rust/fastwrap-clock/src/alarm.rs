//! Waiting for a time, to the microsecond where the platform can.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

#[cfg(target_os = "linux")]
mod timer {
    use std::io;
    use std::task::{Context, Poll, ready};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::net::unix::pipe::Receiver;
    use tokio::time::Instant;

    /// A kernel timer, read like a pipe: tokio's safe wrapper of a descriptor that only becomes readable.
    pub(super) struct Timer {
        fd: Receiver,
        armed: Option<Instant>,
    }

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            let fd = timerfd_create(
                TimerfdClockId::Monotonic,
                TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
            )?;
            Ok(Self { fd: Receiver::from_owned_fd_unchecked(fd)?, armed: None })
        }

        pub(super) fn poll_until(
            &mut self,
            deadline: Instant,
            cx: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            if self.armed != Some(deadline) {
                self.arm(deadline)?;
            }
            loop {
                ready!(self.fd.poll_read_ready(cx))?;
                let mut expirations = [0; 8];
                match self.fd.try_read(&mut expirations) {
                    Ok(_) => {
                        self.armed = None;
                        return Poll::Ready(Ok(()));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        }

        fn arm(&mut self, deadline: Instant) -> io::Result<()> {
            let wait = deadline.saturating_duration_since(Instant::now());
            let value = Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                // Zero would disarm the timer.
                tv_nsec: i64::from(wait.subsec_nanos()).max(1),
            };
            let once =
                Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
            timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)?;
            self.armed = Some(deadline);
            Ok(())
        }
    }
}

/// Wakes a task at one time after another.
///
/// tokio's timer counts whole milliseconds, which is as long as many a gap between two tokens; a kernel timer is used
/// where there is one, and tokio's where there is none or it fails.
#[derive(Default)]
pub struct Alarm {
    #[cfg(target_os = "linux")]
    timer: Option<timer::Timer>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready once it is `deadline`.
    pub fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        #[cfg(target_os = "linux")]
        if self.sleep.is_none() {
            if self.timer.is_none() {
                self.timer = timer::Timer::new().ok();
            }
            match self.timer.as_mut().map(|timer| timer.poll_until(deadline, cx)) {
                Some(Poll::Pending) => return Poll::Pending,
                Some(Poll::Ready(Ok(()))) => return Poll::Ready(()),
                Some(Poll::Ready(Err(_))) | None => {}
            }
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }
}
