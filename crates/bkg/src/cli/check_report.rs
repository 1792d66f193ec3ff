//! The report of a check as text for people, or as JSON; the list of rules likewise.
//!
//! It decides nothing: every word about a plugin comes from the report. Colour repeats what a word says.

use std::fmt::Write as _;

use serde_json::json;

use super::Verdict;
use super::error::CliError;
use super::output::{Output, Paint, harmless};
use crate::conformance::{Counts, Finding, Level, Outcome, Report, Rule, Wishes};

/// Shows a report.
///
/// # Errors
/// The output cannot be written.
pub(super) fn show(report: &Report, output: &mut Output) -> Result<(), CliError> {
    if output.wants_json() {
        return output.json(&serde_json::to_string(report).expect("a report has a JSON form"));
    }
    let text = text(report, output);
    output.text(&text)
}

/// Shows the rules that a check would try.
///
/// # Errors
/// The output cannot be written.
pub(super) fn list(wishes: &Wishes, output: &mut Output) -> Result<Verdict, CliError> {
    let rules: Vec<Rule> = Rule::all().filter(|rule| wishes.wants(*rule)).collect();
    if output.wants_json() {
        let rows: Vec<_> = rules
            .iter()
            .map(|rule| json!({ "rule": rule, "level": rule.level(), "demand": rule.demand(), "see": rule.pointer() }))
            .collect();
        output.json(&json!({ "rules": rows }).to_string())?;
        return Ok(Verdict::Reached);
    }
    let mut text = String::new();
    for level in [Level::Base, Level::Extended] {
        let of_level: Vec<&Rule> = rules.iter().filter(|rule| rule.level() == level).collect();
        if of_level.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{level} level");
        for rule in of_level {
            let _ = writeln!(text, "  {:WIDTH$}{}", rule.id(), rule.demand());
        }
    }
    output.text(&text)?;
    Ok(Verdict::Reached)
}

/// The column in which something is said about a rule: one more than the longest id.
const WIDTH: usize = 33;

fn text(report: &Report, output: &Output) -> String {
    let mut text = String::new();
    for level in [Level::Base, Level::Extended] {
        let of_level: Vec<&Finding> =
            report.rules.iter().filter(|finding| finding.level == level).collect();
        if of_level.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{level} level");
        for finding in of_level {
            let (word, paint, why) = match &finding.outcome {
                Outcome::Passed => ("passed", Some(Paint::Green), None),
                Outcome::Broken { .. } => ("BROKEN", Some(Paint::Red), None),
                // Why stands below, once for all that have one reason.
                Outcome::NotTried { .. } => ("not tried", Some(Paint::Yellow), None),
                Outcome::NotApplicable { reason } => ("does not apply", Some(Paint::Dim), Some(reason)),
            };
            let why = why.map(|why| format!(": {}", harmless(why))).unwrap_or_default();
            let word = output.painted(word, paint);
            let _ = writeln!(text, "  {:WIDTH$}{word}{why}", finding.rule.id());
            for remark in &finding.remarks {
                let _ = writeln!(text, "  {:WIDTH$}worth a look: {}", "", harmless(remark));
            }
        }
        text.push('\n');
    }
    text.push_str(&untried(report));
    for finding in report.broken() {
        text.push_str(&broken(finding, output));
    }
    text.push_str(&summary(report));
    text
}

/// What was not tried, by the reason.
fn untried(report: &Report) -> String {
    let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
    for finding in &report.rules {
        let Outcome::NotTried { reason } = &finding.outcome else { continue };
        match by_reason.iter_mut().find(|(other, _)| other == reason) {
            Some((_, rules)) => rules.push(finding.rule.id()),
            None => by_reason.push((reason, vec![finding.rule.id()])),
        }
    }
    let paragraph = |(reason, rules): &(&str, Vec<&str>)| {
        format!("not tried: {}\n{}\n", harmless(reason), wrapped(rules))
    };
    by_reason.iter().map(paragraph).collect()
}

/// How wide a list of rules may be: that of the narrowest terminal in use.
const LINE: usize = 80;

/// A list of rules, indented, as many to a line as fit.
fn wrapped(rules: &[&str]) -> String {
    let mut lines = vec![String::new()];
    for (index, rule) in rules.iter().enumerate() {
        let comma = if index + 1 < rules.len() { "," } else { "" };
        if lines.last().is_some_and(|line| line.len() + rule.len() + comma.len() + 2 > LINE) {
            lines.push(String::new());
        }
        let line = lines.last_mut().expect("it begins with one line");
        line.push_str(if line.is_empty() { "  " } else { " " });
        line.push_str(rule);
        line.push_str(comma);
    }
    lines.join("\n") + "\n"
}

fn broken(finding: &Finding, output: &Output) -> String {
    let Outcome::Broken { expected, came, at_ms } = &finding.outcome else { return String::new() };
    let head = output.painted(&format!("BROKEN {}", finding.rule.id()), Some(Paint::Red));
    format!(
        "{head}, {at}.{tenths} s after the check began\n  {demand}\n  expected  {expected}\n  came      {came}\n  see       {see}\n\n",
        at = at_ms / 1000,
        tenths = at_ms % 1000 / 100,
        demand = finding.demand,
        expected = harmless(expected),
        came = harmless(came),
        see = finding.see,
    )
}

fn summary(report: &Report) -> String {
    let Counts { passed, broken, not_tried, not_applicable } = report.counts;
    let name = report.plugin.as_deref().unwrap_or("the plugin");
    let level = match (report.contract, report.level) {
        (None, _) => format!("{name} never registered"),
        _ if !report.is_whole => format!("{name}, checked for some rules only"),
        (Some(_), None) => format!("{name} reaches no level"),
        (Some(_), Some(level)) => format!("{name} reaches the {level} level"),
    };
    let mut counts = vec![format!("{passed} passed"), format!("{broken} broken")];
    for (count, word) in [(not_tried, "not tried"), (not_applicable, "not applicable")] {
        if count > 0 {
            counts.push(format!("{count} {word}"));
        }
    }
    let seconds = report.took_ms / 1000;
    let tenths = report.took_ms % 1000 / 100;
    format!("{level}: {} ({seconds}.{tenths} s)\n", counts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_all_rules_fits_a_narrow_terminal() {
        let rules: Vec<&str> = Rule::all().map(Rule::id).collect();
        let text = wrapped(&rules);
        assert!(text.lines().all(|line| line.starts_with("  ") && line.len() <= LINE), "{text}");
        assert_eq!(
            text.split_whitespace().map(|word| word.trim_end_matches(',')).collect::<Vec<_>>(),
            rules
        );
    }
}
