//! `portcullis serve` as a process, with real modules and an upstream in this process.

mod admin;
mod example;
mod folder;
mod life;
mod process;
mod swap;
