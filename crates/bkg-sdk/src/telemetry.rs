//! Figures about the plugin's own process: processor time and resident memory.
//!
//! Only of this process, not of what it starts: the host samples the whole launch itself.

use std::time::Instant;

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// Processor time since the last sample, in percent of one core.
    pub(crate) cpu: f64,
    /// Resident memory in bytes.
    pub(crate) resident: u64,
}

/// Remembers the last sample, since processor time is a rate.
#[derive(Debug)]
pub(crate) struct OwnProcess {
    at: Instant,
    cpu_seconds: f64,
}

impl OwnProcess {
    pub(crate) fn new() -> Self {
        Self { at: Instant::now(), cpu_seconds: read().map_or(0.0, |(cpu_seconds, _)| cpu_seconds) }
    }

    /// The usage since the last sample; `None` where the system does not say.
    pub(crate) fn sample(&mut self) -> Option<Usage> {
        let (cpu_seconds, resident) = read()?;
        let now = Instant::now();
        let elapsed = now.duration_since(self.at).as_secs_f64();
        let used = cpu_seconds - self.cpu_seconds;
        (self.at, self.cpu_seconds) = (now, cpu_seconds);
        let cpu = if elapsed > 0.0 { 100.0 * used / elapsed } else { 0.0 };
        Some(Usage { cpu, resident })
    }
}

/// Processor time in seconds and resident memory in bytes: `proc_pid_stat(5)`.
#[cfg(target_os = "linux")]
fn read() -> Option<(f64, u64)> {
    let stat = procfs::process::Process::myself().ok()?.stat().ok()?;
    let ticks = (stat.utime + stat.stime) as f64;
    Some((ticks / procfs::ticks_per_second() as f64, stat.rss * procfs::page_size()))
}

#[cfg(not(target_os = "linux"))]
fn read() -> Option<(f64, u64)> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn work_shows_as_processor_time_and_memory_as_resident() {
        let mut process = OwnProcess::new();
        let ballast = vec![1_u8; 32 << 20];
        // Processor time counts in steps of 10 ms.
        let until = Instant::now() + std::time::Duration::from_millis(100);
        let mut sum = 0_u64;
        while Instant::now() < until {
            sum = sum.wrapping_add(ballast.iter().step_by(4096).map(|&byte| u64::from(byte)).sum::<u64>());
        }
        assert!(sum > 0);
        let usage = process.sample().unwrap();
        assert!(usage.cpu > 1.0, "{usage:?}");
        assert!(usage.resident > 32 << 20, "{usage:?}");
    }
}
