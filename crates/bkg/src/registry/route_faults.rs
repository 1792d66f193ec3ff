//! What a plugin's answers to HTTP requests asked for and did not get: headers that are the host's.
//!
//! Counted for as long as the host knows the plugin; each header is named once in the plugin's log, by
//! whoever is told that it is new here.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many different names are remembered: a plugin could think of ever new ones.
const MOST_NAMES: usize = 64;

/// The headers that were left out of a plugin's answers.
#[derive(Debug, Default)]
pub struct RouteFaults {
    dropped: AtomicU64,
    named: Mutex<BTreeSet<String>>,
}

impl RouteFaults {
    /// Counts a header that was left out. Answers whether its name is new.
    pub fn dropped_header(&self, name: &str) -> bool {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.len() < MOST_NAMES && !named.contains(name) && named.insert(name.to_owned())
    }

    /// How many headers were left out so far.
    pub fn dropped_headers(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_news_once_and_every_header_counts() {
        let faults = RouteFaults::default();
        assert!(faults.dropped_header("set-cookie"));
        assert!(!faults.dropped_header("set-cookie"));
        let news = (0..1_000).filter(|number| faults.dropped_header(&number.to_string())).count();
        assert_eq!((news, faults.dropped_headers()), (MOST_NAMES - 1, 1_002));
    }
}
