//! CPU time and memory of a process and its descendants.

use std::io;

/// What a tree of processes has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// CPU time of those that run, user's and kernel's.
    pub(crate) cpu_ns: u64,
    /// Resident memory; what processes share counts for each of them.
    pub(crate) rss_bytes: u64,
}

#[cfg(target_os = "linux")]
pub(crate) fn usage(root: u32) -> io::Result<Usage> {
    let mut usage = Usage::default();
    for pid in linux::tree(root)? {
        match linux::one(pid) {
            Ok(one) => {
                usage.cpu_ns += one.cpu_ns;
                usage.rss_bytes += one.rss_bytes;
            }
            // A child may end meanwhile.
            Err(error) if pid == root => return Err(error),
            Err(_) => {}
        }
    }
    Ok(usage)
}

/// Resident memory of some processes, those that have ended aside; finding a process's children is what takes long.
#[cfg(target_os = "linux")]
pub(crate) fn resident_bytes(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| linux::resident_bytes(*pid).ok()).sum()
}

#[cfg(target_os = "linux")]
pub(crate) use linux::tree;

#[cfg(not(target_os = "linux"))]
pub(crate) fn resident_bytes(_pids: &[u32]) -> u64 {
    0
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn tree(root: u32) -> io::Result<Vec<u32>> {
    usage(root).map(|_| Vec::new())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn usage(_root: u32) -> io::Result<Usage> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "processes can be watched on Linux only"))
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::io;

    use nix::time::clock_getcpuclockid;
    use nix::unistd::Pid;

    use super::Usage;

    /// The process and its descendants.
    pub(crate) fn tree(root: u32) -> io::Result<Vec<u32>> {
        let parents: Vec<(u32, u32)> = fs::read_dir("/proc")?
            .filter_map(|entry| {
                let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
                Some((pid, parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))
            })
            .collect();
        let mut found = vec![root];
        let mut next = 0;
        while let Some(&pid) = found.get(next) {
            found.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(pid, _)| pid));
            next += 1;
        }
        Ok(found)
    }

    /// `stat` is "PID (NAME) STATE PARENT …", and a name may hold anything.
    pub(super) fn parent(stat: &str) -> Option<u32> {
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    }

    pub(super) fn one(pid: u32) -> io::Result<Usage> {
        // The kernel's clock of the process: to the nanosecond, where /proc/PID/stat counts hundredths of a second.
        let id = Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?);
        let clock = clock_getcpuclockid(id)?.now()?;
        let (seconds, nanoseconds) = (clock.tv_sec(), clock.tv_nsec());
        Ok(Usage {
            cpu_ns: u64::try_from(seconds * 1_000_000_000 + nanoseconds).unwrap_or(0),
            rss_bytes: resident_bytes(pid)?,
        })
    }

    pub(super) fn resident_bytes(pid: u32) -> io::Result<u64> {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
        let pages: u64 =
            statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        Ok(pages * rustix::param::page_size() as u64)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_may_hold_parentheses() {
        assert_eq!(linux::parent("5 (a) b (c) S 42 5 5 0"), Some(42));
        assert_eq!(linux::parent("nonsense"), None);
    }

    #[test]
    fn the_own_process_uses_time_and_memory() {
        let before = usage(std::process::id()).unwrap();
        let mut sum = 0u64;
        while usage(std::process::id()).unwrap().cpu_ns < before.cpu_ns + 5_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(before.rss_bytes > 100_000, "{before:?}");
        assert!(resident_bytes(&[std::process::id(), u32::MAX / 4]) > 100_000);
    }

    #[test]
    fn children_belong_to_the_tree_and_strangers_do_not_exist() {
        // It ends when its input does.
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert!(linux::tree(std::process::id()).unwrap().contains(&child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(usage(child.id()).is_err());
    }
}
