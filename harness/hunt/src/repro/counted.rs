//! Counting what is in a YAML document before any of it is kept: aliases may stand for far more
//! than the document is long.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// No repro file holds more values than this: operations that are left out are most of them, with
/// three values each.
const MOST: usize = 400_000;

/// A document with no more values than that. Nothing of it is kept.
pub(super) struct Counted;

impl<'de> serde::Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Counted, D::Error> {
        let left = Cell::new(MOST);
        Count(&left).deserialize(deserializer)
    }
}

/// Counts down what may still come.
#[derive(Clone, Copy)]
struct Count<'a>(&'a Cell<usize>);

impl Count<'_> {
    fn one<E: Error>(self) -> Result<Counted, E> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| E::custom(format!("it holds more than {MOST} values, so it is no repro file")))?);
        Ok(Counted)
    }
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = Counted;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Counted, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = Counted;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Counted, E> {
        self.one()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Counted, E> {
        self.one()
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Counted, E> {
        self.one()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Counted, E> {
        self.one()
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Counted, E> {
        self.one()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Counted, E> {
        self.one()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Counted, E> {
        self.one()
    }

    fn visit_unit<E: Error>(self) -> Result<Counted, E> {
        self.one()
    }

    fn visit_none<E: Error>(self) -> Result<Counted, E> {
        self.one()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Counted, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Counted, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Counted, A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        self.one()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Counted, A::Error> {
        while entries.next_key_seed(self)?.is_some() {
            entries.next_value_seed(self)?;
        }
        self.one()
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, tagged: A) -> Result<Counted, A::Error> {
        use serde::de::VariantAccess;
        let (_, value) = tagged.variant_seed(self)?;
        value.newtype_variant_seed(self)
    }
}
