//! Counters in a file that the workers of one server share: each writes its own and reads all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use fastwrap_core::counters::{CELLS, Cells, Snapshot};
use memmap2::MmapRaw;
use rustix::process::{Pid, test_kill_process};

const CELL_BYTES: usize = size_of::<AtomicU64>();

/// A mapped file of [`CELLS`] counters.
struct FileCells {
    map: MmapRaw,
}

impl Cells for FileCells {
    #[allow(unsafe_code)]
    fn cells(&self) -> &[AtomicU64] {
        // SAFETY: the map is CELLS * 8 bytes (see `open`), page-aligned, zero-filled at first, valid as long as `self`,
        // and only ever written through atomics, here and in no other process.
        unsafe { std::slice::from_raw_parts(self.map.as_mut_ptr().cast::<AtomicU64>(), CELLS) }
    }
}

fn path_of(directory: &Path, pid: u32) -> PathBuf {
    directory.join(format!("{pid}.counters"))
}

/// Creates this process's counters in `directory`.
pub(crate) fn open(directory: &Path) -> io::Result<Box<dyn Cells>> {
    let path = path_of(directory, std::process::id());
    let file: File =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len((CELLS * CELL_BYTES) as u64)?;
    Ok(Box::new(FileCells { map: MmapRaw::map_raw(&file)? }))
}

/// Adds the counters of all other processes in `directory` to `total`.
pub(crate) fn add_others(directory: &Path, total: &mut Snapshot) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let pid = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        let Some(pid) = pid.filter(|pid| *pid != std::process::id()) else {
            continue;
        };
        let bytes = fs::read(&path)?;
        let cells = bytes.as_chunks::<CELL_BYTES>().0.iter().map(|cell| u64::from_ne_bytes(*cell));
        let mut other = Snapshot::from_cells(cells.collect());
        if !is_alive(pid) {
            // What a dead worker had in flight is gone; what it counted stays.
            other.forget_in_flight();
        }
        total.add(&other);
    }
    Ok(())
}

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}
