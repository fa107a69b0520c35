"""Speed as ratios: each benchmark runs several pieces of work in turns and compares them with a goal.

`make bench` runs them and writes docs/results/bench.json and docs/BENCHMARKS.md. Nothing here is installed.

    clock           CPU and wall time of work that runs in turns
    comparison      a benchmark, its goals, and the rows that it gives
    material        phantoms and the released network, shared by all benchmarks
    forward, scans, runtimes, training, processes, growth, serving      the benchmarks
    results, page   the JSON file, and the page made from it
"""
