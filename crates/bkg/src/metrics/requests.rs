//! What requests to plugins came to, for each capability, plugin and model.
//!
//! Not who used how much: that is the table of usage. The invariant: what callers make up adds no row;
//! there are at most [`MOST_ROWS`] rows and a few that gather the rest; whoever adds to a row that is
//! there waits for nobody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bkg_protocol::ErrorCode;

use super::number::{Counter, Histogram};

/// The word in the place of a name that gets no row of its own.
pub const OTHER: &str = "other";
/// How many rows there are at most, besides those that gather the rest. A plugin may change its models as
/// often as it likes.
const MOST_ROWS: usize = 1_024;
/// How many rows one plugin has of one capability.
const MOST_MODELS: usize = 256;
/// How many rows for the rest of plugins there are.
const MOST_GATHERING: usize = 256;

/// What ended, and how.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// What was asked for; [`OTHER`] if no plugin offers it.
    pub capability: &'a str,
    /// Who answered; empty if nobody did.
    pub plugin: &'a str,
    /// Which model; [`OTHER`] if no plugin offers it, empty if none was named.
    pub model: &'a str,
    /// `ok`, `cancelled` or the code of the error.
    pub outcome: &'a str,
    /// From its begin to its end.
    pub took: Duration,
    /// From its begin to the first part of a stream.
    pub first: Option<Duration>,
    /// What the model read, in tokens.
    pub read: u64,
    /// What the model wrote, in tokens.
    pub wrote: u64,
}

/// All rows.
#[derive(Debug, Default)]
pub struct RequestFigures {
    /// Sorted, so that looking one up takes no memory.
    rows: ArcSwap<Vec<Arc<Row>>>,
    /// Held while a row is added.
    adding: Mutex<()>,
}

/// One row.
#[derive(Debug)]
pub struct Row {
    /// What was asked for.
    pub capability: String,
    /// Who answered.
    pub plugin: String,
    /// Which model.
    pub model: String,
    /// From begin to end.
    pub duration: Histogram,
    /// From begin to the first part.
    pub first: Histogram,
    /// Tokens that models read.
    pub read: Counter,
    /// Tokens that models wrote.
    pub wrote: Counter,
    /// `ok`, then the codes in the order of their table, then what is neither.
    outcomes: [Counter; ErrorCode::ALL.len() + 2],
}

type Key<'a> = (&'a str, &'a str, &'a str);

impl Row {
    fn new((capability, plugin, model): Key<'_>) -> Self {
        Self {
            capability: capability.to_owned(),
            plugin: plugin.to_owned(),
            model: model.to_owned(),
            duration: Histogram::default(),
            first: Histogram::default(),
            read: Counter::default(),
            wrote: Counter::default(),
            outcomes: std::array::from_fn(|_| Counter::default()),
        }
    }

    fn key(&self) -> Key<'_> {
        (&self.capability, &self.plugin, &self.model)
    }

    fn outcome(&self, word: &str) -> &Counter {
        let place = match word {
            "ok" => 0,
            word => ErrorCode::ALL
                .iter()
                .position(|code| code.as_str() == word)
                .map_or(self.outcomes.len() - 1, |place| place + 1),
        };
        &self.outcomes[place]
    }

    /// How often it came to what, what never happened left out.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let words =
            ["ok"].into_iter().chain(ErrorCode::ALL.iter().map(|code| code.as_str())).chain([OTHER]);
        words.zip(&self.outcomes).map(|(word, count)| (word, count.get())).filter(|(_, count)| *count > 0)
    }
}

impl RequestFigures {
    /// Adds a request to its row.
    pub fn ended(&self, ended: &Ended<'_>) {
        let row = self.row((ended.capability, ended.plugin, ended.model));
        row.outcome(ended.outcome).one();
        row.duration.observe(ended.took);
        if let Some(first) = ended.first {
            row.first.observe(first);
        }
        if ended.read > 0 {
            row.read.add(ended.read);
        }
        if ended.wrote > 0 {
            row.wrote.add(ended.wrote);
        }
    }

    /// All rows that there are.
    pub fn rows(&self) -> Arc<Vec<Arc<Row>>> {
        self.rows.load_full()
    }

    fn row(&self, key: Key<'_>) -> Arc<Row> {
        let rows = self.rows.load();
        if let Some(row) = find(&rows, key).or_else(|| find(&rows, bounded(&rows, key))) {
            return row;
        }
        drop(rows);
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = self.rows.load();
        let key = bounded(&rows, key);
        if let Some(row) = find(&rows, key) {
            return row;
        }
        let row = Arc::new(Row::new(key));
        let mut next = Vec::clone(&rows);
        let place = next.partition_point(|other| other.key() < key);
        next.insert(place, Arc::clone(&row));
        self.rows.store(Arc::new(next));
        row
    }
}

fn find(rows: &[Arc<Row>], key: Key<'_>) -> Option<Arc<Row>> {
    let place = rows.binary_search_by(|row| row.key().cmp(&key)).ok()?;
    Some(Arc::clone(&rows[place]))
}

/// The key under which a request is counted: its own while there is room, else one that gathers the rest.
fn bounded<'a>(rows: &[Arc<Row>], key @ (capability, plugin, _): Key<'a>) -> Key<'a> {
    let pair = |row: &Arc<Row>| (row.capability.as_str(), row.plugin.as_str()).cmp(&(capability, plugin));
    let of_plugin =
        rows.partition_point(|row| pair(row).is_le()) - rows.partition_point(|row| pair(row).is_lt());
    if find(rows, key).is_some() || (rows.len() < MOST_ROWS && of_plugin < MOST_MODELS) {
        return key;
    }
    let gathered = (capability, plugin, OTHER);
    if find(rows, gathered).is_some() || rows.len() < MOST_ROWS + MOST_GATHERING {
        return gathered;
    }
    (OTHER, OTHER, OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended<'a>(capability: &'a str, plugin: &'a str, model: &'a str) -> Ended<'a> {
        let took = Duration::from_millis(3);
        Ended { capability, plugin, model, outcome: "ok", took, first: Some(took), read: 2, wrote: 3 }
    }

    #[test]
    fn requests_for_the_same_thing_share_a_row() {
        let figures = RequestFigures::default();
        for outcome in ["ok", "ok", "timeout", "cancelled", "never heard of"] {
            figures.ended(&Ended { outcome, ..ended("llm.chat", "p", "m") });
        }
        figures.ended(&ended("llm.chat", "p", "a"));
        let rows = figures.rows();
        let models: Vec<&str> = rows.iter().map(|row| row.model.as_str()).collect();
        assert_eq!(models, ["a", "m"]);
        let outcomes: Vec<_> = rows[1].outcomes().collect();
        assert_eq!(outcomes, [("ok", 2), ("cancelled", 1), ("timeout", 1), (OTHER, 1)]);
        assert_eq!((rows[1].read.get(), rows[1].wrote.get()), (10, 15));
        assert_eq!(rows[1].first.distribution().count(), 5);
    }

    #[test]
    fn rows_are_bounded_and_the_rest_is_gathered() {
        let figures = RequestFigures::default();
        for number in 0..10_000 {
            figures.ended(&ended("llm.chat", "p", &format!("m{number}")));
        }
        assert_eq!(figures.rows().len(), MOST_MODELS + 1);
        for number in 0..10_000 {
            let name = format!("x.{number}");
            figures.ended(&ended(&name, &name, "m"));
        }
        let rows = figures.rows();
        assert_eq!(rows.len(), MOST_ROWS + MOST_GATHERING + 1);
        let count: u64 = rows.iter().flat_map(|row| row.outcomes()).map(|(_, count)| count).sum();
        assert_eq!(count, 20_000, "nothing is lost");
    }
}
