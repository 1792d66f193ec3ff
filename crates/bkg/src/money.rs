//! Money as a whole number of millionths, so that sums are exact.
//!
//! Not a currency: that is whatever the price table is in. The invariant: what is read and what is written
//! is the same amount. `config` reads prices, `auth` and `store` count with it.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount, in millionths of the currency of the price table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(u64);

/// How many parts a unit of the currency has here.
const PARTS: f64 = 1_000_000.0;
/// The most that an amount may be, in whole units: every number of parts below it has an exact form as a
/// number of JSON.
const MOST_UNITS: f64 = 1_000_000_000.0;

impl Money {
    /// Nothing at all.
    pub const ZERO: Self = Self(0);

    /// So many millionths.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// In millionths.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Together, or the most that there is.
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What is left, or nothing.
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// An amount as people write it; `None` below zero, above a thousand million, or with more than six
    /// places.
    pub fn from_units(units: f64) -> Option<Self> {
        if !(0.0..=MOST_UNITS).contains(&units) {
            return None;
        }
        let parts = (units * PARTS).round();
        // Not for its size: whether rounding lost a place that somebody wrote.
        let is_exact = (parts / PARTS - units).abs() <= units.abs() * (4.0 * f64::EPSILON);
        is_exact.then_some(Self(parts as u64))
    }

    /// As people write it.
    pub fn units(self) -> f64 {
        self.0 as f64 / PARTS
    }
}

impl fmt::Display for Money {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, parts) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if parts == 0 {
            return write!(out, "{units}");
        }
        let places = format!("{parts:06}");
        write!(out, "{units}.{}", places.trim_end_matches('0'))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1_000_000) {
            return serializer.serialize_u64(self.0 / 1_000_000);
        }
        serializer.serialize_f64(self.units())
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let units = f64::deserialize(deserializer)?;
        Self::from_units(units).ok_or_else(|| {
            serde::de::Error::custom(format!("`{units}` is no amount with at most 6 decimal places"))
        })
    }
}

impl JsonSchema for Money {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Money".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "number",
            "minimum": 0,
            "description": "An amount in the currency of the price table, with at most 6 decimal places.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_at_most_six_places() {
        for (units, micros) in [
            (0.1, Some(100_000)),
            (25.0, Some(25_000_000)),
            (0.000001, Some(1)),
            (999_999_999.999999, Some(999_999_999_999_999)),
            (0.0000001, None),
            (1.0000005, None),
            (-1.0, None),
            (f64::NAN, None),
            (2e9, None),
        ] {
            assert_eq!(Money::from_units(units).map(Money::micros), micros, "{units}");
        }
        assert_eq!(serde_json::to_string(&Money::from_micros(12_500_000)).unwrap(), "12.5");
        assert_eq!(serde_json::to_string(&Money::from_micros(3_000_000)).unwrap(), "3");
        assert_eq!(serde_json::from_str::<Money>("12.5").unwrap().to_string(), "12.5");
    }
}
