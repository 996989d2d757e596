//! Values of histories as small numbers, so that searches compare and copy words only.

use std::collections::HashMap;

use duress_history::formats::{Conventions, NilRead, Value};

/// Whole numbers from zero to below this are looked up in a table.
const TABLE: i64 = 1 << 22;

/// Numbers values in the order in which they are first met, from one; zero is `nil`.
pub(crate) struct Values {
    nil_read: NilRead,
    table: Vec<u32>,
    others: HashMap<Value, u32>,
    last: u32,
}

/// The number of `nil`.
pub(crate) const NIL: u32 = 0;

impl Values {
    /// No values yet, of a history with these conventions.
    pub(crate) fn new(conventions: Conventions) -> Values {
        Values { nil_read: conventions.nil_read, table: Vec::new(), others: HashMap::new(), last: NIL }
    }

    /// The number of a value that was read inside a larger result; `None` if it tells nothing.
    pub(crate) fn tells(&mut self, value: &Value) -> Option<u32> {
        match (value, self.nil_read) {
            (Value::Nil, NilRead::Unknown) => None,
            (value, _) => Some(self.number(value)),
        }
    }

    /// The number of a value; equal values have equal numbers.
    pub(crate) fn number(&mut self, value: &Value) -> u32 {
        match value {
            Value::Nil => NIL,
            Value::Int(int @ 0..TABLE) => {
                let at = *int as usize;
                if self.table.len() <= at {
                    self.table.resize(at + 1, NIL);
                }
                if self.table[at] == NIL {
                    self.last += 1;
                    self.table[at] = self.last;
                }
                self.table[at]
            }
            other => {
                if let Some(known) = self.others.get(other) {
                    return *known;
                }
                self.last += 1;
                self.others.insert(other.clone(), self.last);
                self.last
            }
        }
    }
}
