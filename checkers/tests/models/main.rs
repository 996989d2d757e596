//! Models of foreign histories against naive searches, and what they say to people.

mod fuzz;
mod generated;
mod metamorphic;
mod oracle;
mod peers;
mod stories;
mod tiny;
