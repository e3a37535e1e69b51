//! Where the databases of a bench go: a directory on a real disk, gone when the bench is done with it.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

/// Beside the other things that cargo builds, unless `BENCH_DIR` says otherwise.
const DEFAULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench-data");

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A new and empty directory; it is removed on drop.
pub struct BenchDirectory(PathBuf);

impl BenchDirectory {
    /// Makes one under `BENCH_DIR`.
    ///
    /// # Panics
    /// When it cannot be made, or lies in memory: without a disk there is nothing to measure.
    #[must_use]
    pub fn new() -> Self {
        let parent = env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from(DEFAULT), PathBuf::from);
        let path = parent.join(format!("{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).expect("BENCH_DIR can be written to");
        let file_system = file_system_of(&path).unwrap_or_default();
        assert!(
            !matches!(file_system.as_str(), "tmpfs" | "ramfs"),
            "{} is kept in memory ({file_system}): set BENCH_DIR to a directory on a disk",
            parent.display()
        );
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for BenchDirectory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for BenchDirectory {
    fn drop(&mut self) {
        // What stays behind is only litter.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The type of the file system that holds `path`, where the system tells: that of the longest mount point above it.
fn file_system_of(path: &Path) -> io::Result<String> {
    let path = path.canonicalize()?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    let holder = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((Path::new(fields.next()?), fields.next()?))
        })
        .filter(|(mount_point, _)| path.starts_with(mount_point))
        .max_by_key(|(mount_point, _)| mount_point.components().count());
    Ok(holder.map(|(_, file_system)| file_system.to_owned()).unwrap_or_default())
}
