//! Banks: transfers move money and never make or destroy any.
//!
//! Jepsen's `jepsen.tests.bank` (a test of snapshot isolation): reads show every account's balance
//! at one moment, so in each the balances sum to the same total, no account is missing or new, and,
//! unless overdrafts are allowed, none is negative. The total and the accounts are those that most
//! reads show; of equally many, those of the first. Linear but for hashing.

use std::collections::{BTreeMap, BTreeSet};

use duress_history::Outcome;
use duress_history::formats::{Function, Value};

use super::{Findings, Judgement, Unfit, by_key, of_key, told};
use crate::words;
use crate::{Run, Settings};

pub(in super::super) const BANK: Judgement = Judgement {
    name: "bank",
    about: "accounts of a constant total, none below zero: transfer {:from a :to b :amount n}, read -> {account balance}",
    judge: |history, _| judge(history, false),
};

pub(in super::super) const BANK_OVERDRAFT: Judgement = Judgement {
    name: "bank-overdraft",
    about: "the same, where balances may be negative",
    judge: |history, _: &Settings| judge(history, true),
};

/// A read, as the operation and its balances.
type Read<'h> = (usize, BTreeMap<&'h Value, i64>);

fn judge(history: &Run<'_>, overdraft: bool) -> Result<Findings, Unfit> {
    let mut findings = Findings::default();
    let mut count = 0;
    for (key, operations) in by_key(history) {
        let mut reads: Vec<Read<'_>> = Vec::new();
        for at in operations {
            let operation = &history.operations[at];
            match (&operation.op.f, operation.outcome, &operation.result) {
                (Function::Transfer, ..) => {}
                (Function::Read, Outcome::Ok, Some(Value::Map(entries))) => {
                    let balance = |(account, balance): &'_ (Value, Value)| match balance.as_int() {
                        Some(_) => Ok(()),
                        None => {
                            Err(Unfit::new(operation, format!("{balance} of account {account} is no whole number")))
                        }
                    };
                    entries.iter().try_for_each(balance)?;
                    let balances = entries.iter().filter_map(|(account, balance)| Some((account, balance.as_int()?)));
                    reads.push((at, balances.collect()));
                }
                (Function::Read, Outcome::Ok, None | Some(Value::Nil)) => {}
                (Function::Read, Outcome::Ok, _) => return Err(Unfit::new(operation, "it is a read that gave no map")),
                (Function::Read, ..) => {}
                _ => return Err(Unfit::function(operation, "transfer and read")),
            }
        }
        count += reads.len();
        one(history, key, &reads, overdraft, &mut findings);
    }
    if count == 0 {
        findings.doubts.push("The accounts were never read.".into());
    }
    findings.figure("reads", count);
    findings.wrong.sort_by_key(|wrong| wrong.core.iter().max().copied());
    findings.fine = format!("{} show the same total.", words::count(count, "read"));
    Ok(findings)
}

fn one(history: &Run<'_>, key: Option<&Value>, reads: &[Read<'_>], overdraft: bool, findings: &mut Findings) {
    let total = |balances: &BTreeMap<&Value, i64>| balances.values().map(|balance| i128::from(*balance)).sum::<i128>();
    let totals: Vec<i128> = reads.iter().map(|(_, balances)| total(balances)).collect();
    let accounts: Vec<BTreeSet<&Value>> =
        reads.iter().map(|(_, balances)| balances.keys().copied().collect()).collect();
    let (Some(expected), Some(known)) = (usual(&totals), usual(&accounts)) else { return };
    let (right, of) = (totals[expected], of_key(key));
    for (number, (at, balances)) in reads.iter().enumerate() {
        let said = told(&history.operations[*at]);
        if accounts[number] != accounts[known] {
            let sentence = format!("A read{of} shows other accounts than {}: {said}.", like(history, reads, known));
            findings.wrong(sentence, vec![*at, reads[known].0]);
        } else if totals[number] != right {
            let (sum, most) = (totals[number], like(history, reads, expected));
            let sentence = format!("The total{of} is {sum} in {said}, and {right} in {most}.");
            findings.wrong(sentence, vec![*at, reads[expected].0]);
        }
        let negative = balances.iter().find(|(_, balance)| **balance < 0);
        if let (false, Some((account, balance))) = (overdraft, negative) {
            findings.wrong(format!("Account {account}{of} has {balance} in {said}."), vec![*at]);
        }
    }
}

/// The first of those that are there most often.
fn usual<T: Ord>(all: &[T]) -> Option<usize> {
    let mut often: BTreeMap<&T, (usize, usize)> = BTreeMap::new();
    for (at, one) in all.iter().enumerate() {
        often.entry(one).or_insert((0, at)).0 += 1;
    }
    often.into_values().max_by_key(|(times, first)| (*times, std::cmp::Reverse(*first))).map(|(_, first)| first)
}

fn like(history: &Run<'_>, reads: &[Read<'_>], first: usize) -> String {
    format!("most others, first in {}", told(&history.operations[reads[first].0]))
}
