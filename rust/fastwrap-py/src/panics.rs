//! What is logged of a panic.

use std::io::{Write, stderr};
use std::panic;

/// Tells in a line where a panic happened, and not what it says: its message may quote what was being read.
pub(crate) fn report_places() {
    panic::set_hook(Box::new(|panicked| {
        let place =
            panicked.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        // Nobody may read standard error any more.
        let _ = writeln!(stderr(), "fastwrap panicked at {place}");
    }));
}
