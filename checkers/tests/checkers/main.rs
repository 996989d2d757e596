//! Tests of the checkers as their users see them: histories in, reports out.

mod arbitrary;
mod check;
mod growing;
mod notation;
mod search;
mod size;
mod stories;
