//! How many HTTP requests each route answered, with what, and how fast.
//!
//! The invariant: there are as many rows as declared routes and one for what no route knows; no path that
//! a client wrote is among them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::number::{Counter, Histogram};

/// The word in the place of a route or a method that the host does not know.
pub const UNMATCHED: &str = "unmatched";

/// All routes.
#[derive(Debug, Default)]
pub struct HttpFigures {
    /// Locked when a route is added and when all are shown.
    routes: Mutex<Vec<Arc<RouteFigures>>>,
}

/// One route.
#[derive(Debug)]
pub struct RouteFigures {
    /// Its method.
    pub method: String,
    /// Its path, with the names of its parameters in their places.
    pub route: &'static str,
    /// From the head of a request to the end of the answer.
    pub duration: Histogram,
    /// The answers with a status of 1xx, of 2xx and so on.
    classes: [Counter; 5],
}

impl HttpFigures {
    /// Adds a route.
    pub fn add(&self, method: &str, route: &'static str) -> Arc<RouteFigures> {
        let figures = Arc::new(RouteFigures {
            method: method.to_owned(),
            route,
            duration: Histogram::default(),
            classes: std::array::from_fn(|_| Counter::default()),
        });
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&figures));
        figures
    }

    /// Every route.
    pub fn routes(&self) -> Vec<Arc<RouteFigures>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl RouteFigures {
    /// A request was answered.
    pub fn answered(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).clamp(1, self.classes.len()) - 1;
        self.classes[class].one();
        self.duration.observe(took);
    }

    /// How many answers of each class there were, what never happened left out.
    pub fn classes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let words = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        words
            .into_iter()
            .zip(&self.classes)
            .map(|(word, count)| (word, count.get()))
            .filter(|(_, n)| *n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_class() {
        let figures = HttpFigures::default();
        let route = figures.add("GET", "/x");
        for status in [200, 204, 404, 503, 999, 0] {
            route.answered(status, Duration::ZERO);
        }
        let classes: Vec<_> = figures.routes()[0].classes().collect();
        assert_eq!(classes, [("1xx", 1), ("2xx", 2), ("4xx", 1), ("5xx", 2)]);
    }
}
