//! The judgements that are no linearizability, against their definitions tried out on every pair,
//! subset or order, over tiny random histories; and in stories.

mod all;
mod collections;
mod draw;
mod locks;
mod registers;
mod stories;
