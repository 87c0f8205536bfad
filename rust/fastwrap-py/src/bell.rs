//! Wakes the sampler when a request begins or ends, in whichever process: a futex in one cell of the board.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The sampler waits: nobody else is worth a system call. The other bits count what happened.
const WAITED_FOR: u32 = 1;
const STEP: u32 = 2;

/// The cell as what the kernel can wait on. It is the caller's own, and used as nothing else.
#[allow(unsafe_code)]
fn word(cell: &AtomicU64) -> &AtomicU32 {
    // SAFETY: in bounds and aligned; all accesses to the cell, in all processes, are of this size at this address.
    unsafe { AtomicU32::from_ptr(cell.as_ptr().cast()) }
}

/// Something happened.
pub(crate) fn ring(cell: &AtomicU64) {
    let word = word(cell);
    if word.fetch_add(STEP, Ordering::AcqRel) & WAITED_FOR != 0 {
        word.fetch_and(!WAITED_FOR, Ordering::AcqRel);
        wake(word);
    }
}

/// Waits until something happens that was not yet `seen`, or the time is over; returns what is to be seen next, if it did.
pub(crate) fn wait(cell: &AtomicU64, seen: u32, timeout: Duration) -> Option<u32> {
    let word = word(cell);
    let deadline = Instant::now() + timeout;
    loop {
        let value = word.load(Ordering::Acquire);
        let happened = value & !WAITED_FOR;
        if happened != seen {
            return Some(happened);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let waiting = value | WAITED_FOR;
        if word.compare_exchange(value, waiting, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            sleep(word, waiting, left);
            word.fetch_and(!WAITED_FOR, Ordering::AcqRel);
        }
    }
}

#[cfg(target_os = "linux")]
fn wake(word: &AtomicU32) {
    use rustix::thread::futex;

    // Whoever waits finds the word changed at the latest when its time is over.
    let _ = futex::wake(word, futex::Flags::empty(), 1);
}

#[cfg(target_os = "linux")]
fn sleep(word: &AtomicU32, value: u32, longest: Duration) {
    use rustix::thread::futex;

    let timeout = longest.try_into().ok();
    // Woken, changed before, interrupted, too late: the caller looks again in any case.
    let _ = futex::wait(word, futex::Flags::empty(), value, timeout.as_ref());
}

#[cfg(not(target_os = "linux"))]
fn wake(_: &AtomicU32) {}

/// There is no NVIDIA GPU to be sampled elsewhere.
#[cfg(not(target_os = "linux"))]
fn sleep(_: &AtomicU32, _: u32, longest: Duration) {
    std::thread::sleep(longest.min(Duration::from_millis(50)));
}
