//! Threads without which nothing is served.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::abort;

/// Runs all that a thread does that requests depend on; `work` says whether it ended as it should.
///
/// If not, or if it panics, the process ends at once: whoever started it starts it again, where one that is half alive
/// would keep its port, its clients waiting and its health looking well.
pub fn vital(work: impl FnOnce() -> bool) {
    if !catch_unwind(AssertUnwindSafe(work)).unwrap_or(false) {
        abort();
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const WORK: &str = "FASTWRAP_TEST_VITAL_WORK";

    /// How a process ends in whose thread this happens: the signal.
    fn signal_after(work: &str) -> Option<i32> {
        let this = "vital::tests::a_process_lives_no_longer_than_its_threads";
        let mut process = Command::new(env::current_exe().unwrap());
        process.args(["--exact", this, "--test-threads", "1"]).env(WORK, work);
        process.output().unwrap().status.signal()
    }

    #[test]
    fn a_process_lives_no_longer_than_its_threads() {
        const SIGABRT: i32 = 6;
        match env::var(WORK).as_deref() {
            Ok("ends") => vital(|| true),
            Ok("fails") => std::thread::spawn(|| vital(|| false)).join().unwrap(),
            Ok(_) => std::thread::spawn(|| vital(|| panic!("as planned"))).join().unwrap(),
            Err(_) => {
                assert_eq!(signal_after("ends"), None);
                assert_eq!(signal_after("fails"), Some(SIGABRT));
                assert_eq!(signal_after("panics"), Some(SIGABRT));
            }
        }
    }
}
