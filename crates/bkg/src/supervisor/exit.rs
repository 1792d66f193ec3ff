//! Why a process ended, in a sentence that an operator understands.
//!
//! Only what the kernel reported: whether the end was wanted is for the state machine to know. Called by
//! the supervisor's state machine, for its events and for the crash card.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

use nix::sys::signal::Signal;
use serde::Serialize;

use super::confine::Enclosure;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum ExitCause {
    /// By itself.
    Exited {
        /// Its exit code, 0 to 255.
        code: i32,
        /// The memory limit because of which the kernel killed a process of the launch.
        #[serde(skip_serializing_if = "Option::is_none")]
        oom: Option<MemoryLimit>,
    },
    /// By a signal.
    Killed {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel wrote a core file.
        dumped_core: bool,
        /// Whether it was SIGKILL while the kernel killed something for lack of memory. What it killed is
        /// not said: the count is the machine's.
        memory_ran_out: bool,
        /// The memory limit because of which the kernel killed a process of the launch.
        #[serde(skip_serializing_if = "Option::is_none")]
        oom: Option<MemoryLimit>,
    },
}

/// The `memoryMb` of an entry, which a launch exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryLimit {
    /// The limit, in MiB.
    pub memory_mb: u64,
}

impl ExitCause {
    /// The cause behind a status, given what the memory watch saw while the process ran.
    pub fn of(status: ExitStatus, memory: &MemoryWatch) -> Self {
        let oom = memory.over_limit();
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited { code, oom },
            (None, Some(signal)) => Self::Killed {
                signal,
                dumped_core: status.core_dumped(),
                memory_ran_out: signal == Signal::SIGKILL as i32 && oom.is_none() && memory.ran_out(),
                oom,
            },
            (None, None) => unreachable!("the status of a process that has ended holds a code or a signal"),
        }
    }

    /// Whether the process ended by itself and said that all is well.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited { code: 0, .. })
    }
}

impl fmt::Display for ExitCause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited { code, oom: Some(MemoryLimit { memory_mb }) } => write!(
                out,
                "exited with code {code} after a process of it was killed because it used more than its \
                 memory limit of {memory_mb} MB"
            ),
            Self::Killed { signal, oom: Some(MemoryLimit { memory_mb }), .. }
                if signal == Signal::SIGKILL as i32 =>
            {
                write!(out, "was killed because it used more than its memory limit of {memory_mb} MB")
            }
            Self::Exited { code, oom: None } => {
                write!(out, "exited with code {code}")?;
                // The conventions of POSIX shells, and `start.sh` is one as a rule.
                match code {
                    126 => write!(out, " (a command could not be executed)"),
                    127 => write!(out, " (a command was not found)"),
                    129..=192 => write!(out, " (a command was killed by {})", signal_name(code - 128)),
                    _ => Ok(()),
                }
            }
            Self::Killed { signal, dumped_core, memory_ran_out, .. } => {
                write!(out, "killed by {}", signal_name(signal))?;
                if dumped_core {
                    write!(out, " (core dumped)")?;
                }
                if memory_ran_out {
                    write!(out, " while the machine was out of memory")?;
                }
                Ok(())
            }
        }
    }
}

fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.to_string())
}

/// Notices whether the kernel killed a process of the launch because of its memory limit, or any process of
/// the machine for lack of memory, since it was started.
#[derive(Debug, Clone)]
pub struct MemoryWatch {
    kills_before: Option<i64>,
    enclosure: Arc<Enclosure>,
}

impl MemoryWatch {
    /// Starts to watch: to be called when the process starts.
    pub fn start() -> Self {
        Self { kills_before: out_of_memory_kills(), enclosure: Arc::default() }
    }

    /// Watches the cgroups of the launch as well.
    pub(super) fn with(self, enclosure: &Arc<Enclosure>) -> Self {
        Self { enclosure: Arc::clone(enclosure), ..self }
    }

    /// The launch's memory limit, if the kernel killed a process of it for that: by its own count.
    fn over_limit(&self) -> Option<MemoryLimit> {
        self.enclosure.over_memory().map(|memory_mb| MemoryLimit { memory_mb })
    }

    /// Whether it happened. False where the kernel does not count it (before 4.13).
    pub fn ran_out(&self) -> bool {
        self.kills_before.is_some() && self.kills_before < out_of_memory_kills()
    }
}

fn out_of_memory_kills() -> Option<i64> {
    procfs::vmstat().ok()?.get("oom_kill").copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(raw: i32) -> ExitCause {
        ExitCause::of(ExitStatus::from_raw(raw), &MemoryWatch::start())
    }

    #[test]
    fn a_cause_reads_as_a_sentence() {
        let core_dumped = 0x80;
        for (raw, sentence) in [
            (0, "exited with code 0"),
            (3 << 8, "exited with code 3"),
            (126 << 8, "exited with code 126 (a command could not be executed)"),
            (127 << 8, "exited with code 127 (a command was not found)"),
            (137 << 8, "exited with code 137 (a command was killed by SIGKILL)"),
            (255 << 8, "exited with code 255"),
            (9, "killed by SIGKILL"),
            (15, "killed by SIGTERM"),
            (11 | core_dumped, "killed by SIGSEGV (core dumped)"),
            (40, "killed by signal 40"),
        ] {
            assert_eq!(cause(raw).to_string(), sentence);
        }
    }

    #[test]
    fn only_code_zero_is_success() {
        assert!(cause(0).is_success());
        assert!(!cause(1 << 8).is_success());
        assert!(!cause(15).is_success());
    }

    #[test]
    fn a_lack_of_memory_is_mentioned_for_sigkill_alone() {
        // A watch that saw fewer kills than any machine has had, and one that saw none since.
        let watch = |kills_before| MemoryWatch { kills_before, enclosure: Arc::default() };
        let lacking = || watch(Some(-1));
        let of = |raw, watch: MemoryWatch| ExitCause::of(ExitStatus::from_raw(raw), &watch).to_string();
        assert_eq!(of(9, lacking()), "killed by SIGKILL while the machine was out of memory");
        assert_eq!(of(15, lacking()), "killed by SIGTERM");
        assert_eq!(of(9, watch(None)), "killed by SIGKILL");
    }

    #[test]
    fn a_cause_is_plain_json() {
        let json = |raw| serde_json::to_string(&cause(raw)).unwrap();
        assert_eq!(json(3 << 8), r#"{"kind":"exited","code":3}"#);
        let killed = r#"{"kind":"killed","signal":15,"dumpedCore":false,"memoryRanOut":false}"#;
        assert_eq!(json(15), killed);
    }
}
