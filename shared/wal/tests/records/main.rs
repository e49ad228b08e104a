//! The records of a real PostgreSQL's segments, as `pg_waldump` prints them.
//!
//! Needs PostgreSQL 13 to 18. What is missing fails; nothing is skipped.

mod postgres;
mod waldump;

mod compare;
mod damage;
