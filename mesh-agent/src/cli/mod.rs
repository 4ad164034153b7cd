//! The commands.

mod args;
mod print;
