//! The `collector-bench` program: everything is in the library.

fn main() -> anyhow::Result<()> {
    collector_bench::cli::run()
}
