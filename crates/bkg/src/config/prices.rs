//! What models cost: the price table of the configuration.
//!
//! Not what anybody has spent. The invariant: the same names have the same price, whichever way the table is
//! written. `keys` parses the table, `web` asks it what an answer cost.

use std::collections::BTreeMap;

use bkg_protocol::Pattern;
use toml::Value;

use crate::money::Money;

/// What tokens of a model cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    /// For a million tokens that the model reads.
    pub input_per_million: Money,
    /// For a million tokens that the model writes.
    pub output_per_million: Money,
}

/// What models cost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prices {
    table: BTreeMap<Pattern, Price>,
}

impl Price {
    /// What so many tokens cost, rounded to the nearest millionth.
    pub fn of(self, input: u64, output: u64) -> Money {
        let parts = u128::from(input) * u128::from(self.input_per_million.micros())
            + u128::from(output) * u128::from(self.output_per_million.micros());
        Money::from_micros(u64::try_from((parts + 500_000) / 1_000_000).unwrap_or(u64::MAX))
    }
}

impl Prices {
    /// Whether nothing has a price.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The price of a model that goes by these names; the first that the table knows counts, and of several
    /// patterns the longest.
    pub fn of<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<Price> {
        names.into_iter().find_map(|name| {
            let matching = self.table.iter().filter(|(pattern, _)| pattern.matches(name));
            let longest = matching
                .max_by_key(|(pattern, _)| (!pattern.as_str().ends_with('*'), pattern.as_str().len()));
            longest.map(|(_, price)| *price)
        })
    }

    /// The highest price of each kind in the table.
    pub fn dearest(&self) -> Price {
        self.table.values().fold(Price::default(), |dearest, price| Price {
            input_per_million: dearest.input_per_million.max(price.input_per_million),
            output_per_million: dearest.output_per_million.max(price.output_per_million),
        })
    }

    /// Reads the table of the configuration file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        const RIGHT: &str = "`[prices.\"model\"]` with `input_per_million` and `output_per_million`";
        let table = value.as_table().ok_or_else(|| format!("use {RIGHT}, not `{value}`"))?;
        let mut prices = BTreeMap::new();
        for (name, price) in table {
            let pattern: Pattern = name.parse().map_err(|error| format!("{error}"))?;
            let members = price.as_table().ok_or_else(|| format!("use {RIGHT}, not `{price}`"))?;
            let mut read = Price::default();
            for (member, amount) in members {
                let place = match member.as_str() {
                    "input_per_million" => &mut read.input_per_million,
                    "output_per_million" => &mut read.output_per_million,
                    _ => {
                        return Err(format!(
                            "`{name}` has a member `{member}`, which is not known: use {RIGHT}"
                        ));
                    }
                };
                let units = amount.as_float().or_else(|| amount.as_integer().map(|units| units as f64));
                *place = units.and_then(Money::from_units).ok_or_else(|| {
                    format!(
                        "`{member}` of `{name}` is `{amount}`: use an amount with at most 6 decimal places"
                    )
                })?;
            }
            prices.insert(pattern, read);
        }
        Ok(Self { table: prices })
    }

    /// The table as the configuration file has it.
    pub(super) fn written(&self) -> Value {
        let amount = |money: Money| Value::from(money.units());
        let row = |price: &Price| {
            Value::Table(toml::Table::from_iter([
                ("input_per_million".to_owned(), amount(price.input_per_million)),
                ("output_per_million".to_owned(), amount(price.output_per_million)),
            ]))
        };
        Value::Table(self.table.iter().map(|(pattern, price)| (pattern.to_string(), row(price))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices(text: &str) -> Result<Prices, String> {
        Prices::read(&Value::Table(text.parse().unwrap()))
    }

    #[test]
    fn the_longest_pattern_that_matches_has_the_price_and_a_whole_name_wins() {
        let prices = prices(
            "'*' = { input_per_million = 9 }\n'gpt-*' = { input_per_million = 2.5, output_per_million = 10 }\n\
             'gpt-4o' = { output_per_million = 1 }",
        )
        .unwrap();
        let input =
            |names: &[&str]| prices.of(names.iter().copied()).unwrap().input_per_million.to_string();
        assert_eq!(input(&["gpt-5"]), "2.5");
        assert_eq!(input(&["gpt-4o"]), "0");
        assert_eq!(input(&["other"]), "9");
        assert_eq!(prices.dearest().output_per_million.to_string(), "10");
        assert_eq!(Prices::default().of(["x"]), None);
    }

    #[test]
    fn what_tokens_cost_is_exact_to_a_millionth() {
        let price = prices("a = { input_per_million = 0.15, output_per_million = 0.6 }").unwrap();
        let price = price.of(["a"]).unwrap();
        assert_eq!(price.of(1_000_000, 1_000_000), Money::from_micros(750_000));
        assert_eq!(price.of(10, 5).micros(), 5);
        let dear = Price { input_per_million: Money::from_micros(u64::MAX), ..price };
        assert_eq!(dear.of(u64::MAX, 0).micros(), u64::MAX);
    }

    #[test]
    fn a_wrong_table_is_refused_with_the_member() {
        for (text, part) in [
            ("a = 1", "`[prices"),
            ("a = { input = 1 }", "`input`"),
            ("a = { input_per_million = -1 }", "`input_per_million` of `a`"),
            ("'a*b' = {}", "a*b"),
        ] {
            let error = prices(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
