//! The text of all metrics, in either form that scrapers read.
//!
//! Prometheus' text format 0.0.4 and OpenMetrics 1.0.0 differ in the header of a counter, in the last line
//! and in nothing else that stands here. The invariant: a family is written once and whole, with exactly
//! its labels.

use std::fmt::Write;

use super::family::{Family, Kind};
use super::number::{BOUNDS, Distribution};

/// A form of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own, 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Its content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The form that an `accept` header wants more; Prometheus' own where both are wanted alike.
    pub fn wanted(accept: &str) -> Self {
        let (mut plain, mut open) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let mut version = None;
            let mut quality = 1.0;
            for part in parts {
                match part.split_once('=') {
                    Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
                    Some(("version", value)) => version = Some(value.trim_matches('"')),
                    _ => {}
                }
            }
            if name.eq_ignore_ascii_case("application/openmetrics-text") {
                if version.is_none_or(|version| version == "1.0.0") {
                    open = open.max(quality);
                }
            } else if matches!(name, "text/plain" | "text/*" | "*/*") {
                plain = plain.max(quality);
            }
        }
        if open > plain { Self::OpenMetrics } else { Self::Prometheus }
    }
}

/// The text as it is written.
#[derive(Debug)]
pub struct Page {
    format: Format,
    text: String,
}

/// Where the samples of one family are written.
#[derive(Debug)]
pub struct Samples<'a> {
    page: &'a mut Page,
    family: &'static Family,
}

impl Page {
    /// An empty one.
    pub fn new(format: Format) -> Self {
        Self { format, text: String::with_capacity(16 << 10) }
    }

    /// Begins a family; its samples follow.
    pub fn family(&mut self, family: &'static Family) -> Samples<'_> {
        let name = match (self.format, family.kind) {
            (Format::OpenMetrics, Kind::Counter) => family.name.trim_end_matches("_total"),
            _ => family.name,
        };
        let (kind, help) = (family.kind.as_str(), family.help);
        let text = &mut self.text;
        write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n").expect("a string takes all");
        Samples { page: self, family }
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

impl Samples<'_> {
    /// A number, for the values of the family's labels in their order.
    pub fn number(&mut self, labels: &[&str], value: u64) {
        self.sample("", labels, None, value);
    }

    /// A number that may have a fraction.
    pub fn real(&mut self, labels: &[&str], value: f64) {
        self.sample("", labels, None, value);
    }

    /// A histogram.
    pub fn distribution(&mut self, labels: &[&str], seen: &Distribution) {
        for (count, bound) in seen.up_to.iter().zip(BOUNDS) {
            // With a point in any case: that is how OpenMetrics writes bounds.
            self.sample("_bucket", labels, Some(&format!("{bound:?}")), count);
        }
        self.sample("_bucket", labels, Some("+Inf"), seen.count());
        self.sample("_sum", labels, None, seen.sum.as_secs_f64());
        self.sample("_count", labels, None, seen.count());
    }

    fn sample(
        &mut self,
        suffix: &str,
        labels: &[&str],
        bound: Option<&str>,
        value: impl std::fmt::Display,
    ) {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{}", self.family.name);
        let text = &mut self.page.text;
        text.push_str(self.family.name);
        text.push_str(suffix);
        let pairs = self.family.labels.iter().copied().zip(labels.iter().copied());
        let mut separator = '{';
        for (name, value) in pairs.chain(bound.map(|bound| ("le", bound))) {
            text.push(std::mem::replace(&mut separator, ','));
            text.push_str(name);
            text.push_str("=\"");
            for character in value.chars() {
                match character {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    other => text.push(other),
                }
            }
            text.push('"');
        }
        if separator == ',' {
            text.push('}');
        }
        writeln!(text, " {value}").expect("a string takes all");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::family::{BUILD_INFO, HTTP_DURATION, HTTP_REQUESTS, UPTIME};
    use super::super::number::Histogram;
    use super::*;

    fn page(format: Format) -> String {
        let mut page = Page::new(format);
        page.family(&BUILD_INFO).number(&["a\"b\\c\nd"], 1);
        page.family(&HTTP_REQUESTS).number(&["GET", "/x", "2xx"], 3);
        page.family(&UPTIME).real(&[], 1.5);
        page.finish()
    }

    #[test]
    fn the_two_forms_differ_in_the_names_of_counters_and_in_the_end() {
        let both = |name: &str| {
            format!(
                "# HELP bkg_build_info Always 1; the label is the version of the host.\n\
                 # TYPE bkg_build_info gauge\n\
                 bkg_build_info{{version=\"a\\\"b\\\\c\\nd\"}} 1\n\
                 # HELP {name} HTTP requests that were answered, by route and class of status.\n\
                 # TYPE {name} counter\n\
                 bkg_http_requests_total{{method=\"GET\",route=\"/x\",status=\"2xx\"}} 3\n\
                 # HELP bkg_uptime_seconds How long the host has been running.\n\
                 # TYPE bkg_uptime_seconds gauge\n\
                 bkg_uptime_seconds 1.5\n"
            )
        };
        assert_eq!(page(Format::Prometheus), both("bkg_http_requests_total"));
        assert_eq!(page(Format::OpenMetrics), both("bkg_http_requests") + "# EOF\n");
    }

    #[test]
    fn a_histogram_has_cumulative_buckets_with_canonical_bounds() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(400));
        let mut page = Page::new(Format::Prometheus);
        page.family(&HTTP_DURATION).distribution(&["GET", "/x"], &histogram.distribution());
        let text = page.finish();
        for line in [
            "_bucket{method=\"GET\",route=\"/x\",le=\"0.001\"} 0",
            "_bucket{method=\"GET\",route=\"/x\",le=\"0.5\"} 1",
            "_bucket{method=\"GET\",route=\"/x\",le=\"1.0\"} 1",
            "_bucket{method=\"GET\",route=\"/x\",le=\"+Inf\"} 1",
            "_sum{method=\"GET\",route=\"/x\"} 0.4",
            "_count{method=\"GET\",route=\"/x\"} 1",
        ] {
            let line = format!("bkg_http_request_duration_seconds{line}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    }

    #[test]
    fn the_form_is_the_one_that_is_accepted_more() {
        for (accept, wanted) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text; version=1.0.0,*/*;q=0.1", Format::OpenMetrics),
            ("application/openmetrics-text; version=2.0.0", Format::Prometheus),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;\
                 version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Format::OpenMetrics,
            ),
            ("text/plain;q=0.9,application/openmetrics-text;q=0.2", Format::Prometheus),
            ("application/openmetrics-text;q=x", Format::Prometheus),
        ] {
            assert_eq!(Format::wanted(accept), wanted, "{accept}");
        }
    }
}
