//! A growing history whose register never rests, with more values than are remembered.

use duress_checkers::Budget;
use duress_checkers::engine::online::{Online, State};
use duress_checkers::register::RegisterOp;

#[test]
fn values_are_told_apart_after_old_ones_were_forgotten() {
    let mut online = Online::new(0, Budget::default());
    // Always in progress, so that the register's history is never begun anew.
    online.invoke(0, 0, RegisterOp::Write(1_000_000));
    for value in 1..8_000 {
        online.invoke(1, 0, RegisterOp::Write(value));
        assert_eq!(online.ok(1, None), None, "{value}");
        online.invoke(2, 0, RegisterOp::Read);
        assert_eq!(online.ok(2, Some(value)), None, "{value} is what was written last");
    }
    online.invoke(2, 0, RegisterOp::Read);
    assert_eq!(online.ok(2, Some(1_000_000)), None, "the write in progress may take effect");
    assert_eq!(online.state(0), State::Valid);
    online.invoke(2, 0, RegisterOp::Read);
    assert!(online.ok(2, Some(7_999)).is_some(), "what was overwritten does not come back");
    assert!(matches!(online.state(0), State::Invalid(_)));
}
