//! Cells in files that processes share: of the counters each worker of a server writes its own and reads all; boards of
//! samples are for all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use fastwrap_core::counters::{CELLS, Cells, Snapshot};
use fastwrap_core::samples::{Board, CELLS as BOARD_CELLS};
use memmap2::MmapRaw;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

const CELL_BYTES: usize = size_of::<AtomicU64>();

/// A mapped file of so many cells.
struct FileCells {
    map: MmapRaw,
    count: usize,
}

impl Cells for FileCells {
    #[allow(unsafe_code)]
    fn cells(&self) -> &[AtomicU64] {
        // SAFETY: the map is `count` * 8 bytes (see `map`), page-aligned, zero-filled at first, valid as long as `self`,
        // and only ever written through atomics, here and in other processes.
        unsafe { std::slice::from_raw_parts(self.map.as_mut_ptr().cast::<AtomicU64>(), self.count) }
    }
}

fn path_of(directory: &Path, pid: u32) -> PathBuf {
    directory.join(format!("{pid}.counters"))
}

/// Creates this process's counters in `directory`.
pub(crate) fn open(directory: &Path) -> io::Result<Box<dyn Cells>> {
    let path = path_of(directory, std::process::id());
    map_file(OpenOptions::new().truncate(true), &path, CELLS)
}

/// Opens a board that all processes with this `directory` share; the first one makes it.
pub(crate) fn open_board(directory: &Path, name: &str) -> io::Result<Board> {
    map(&directory.join(name).with_extension("samples"), BOARD_CELLS).map(Board::new)
}

/// Maps `count` cells of a file that other processes may have mapped already.
pub(crate) fn map(path: &Path, count: usize) -> io::Result<Box<dyn Cells>> {
    map_file(OpenOptions::new().truncate(false), path, count)
}

fn map_file(options: &mut OpenOptions, path: &Path, count: usize) -> io::Result<Box<dyn Cells>> {
    let file: File = options.read(true).write(true).create(true).open(path)?;
    let bytes = (count * CELL_BYTES) as u64;
    // A page that there is no room for when it is first written to would end the process.
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP) => file.set_len(bytes)?,
        allocated => allocated?,
    }
    Ok(Box::new(FileCells { map: MmapRaw::map_raw(&file)?, count }))
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

/// Whether there is such a process; one of somebody else's is.
pub(crate) fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}
