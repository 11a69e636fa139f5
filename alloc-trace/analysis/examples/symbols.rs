//! Measures how long it takes to find names, files and lines: `symbols FILE [ADDRESSES]` takes so many
//! addresses (10,000), evenly spread over the code of an executable.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use alloc_trace_analysis::Symbols;
use alloc_trace_format::Module;
use object::{Object, ObjectSection};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: symbols FILE [ADDRESSES]")?;
    let addresses: u64 = arguments.next().map_or(Ok(10_000), |number| number.parse())?;
    let bytes = std::fs::read(Path::new(&file))?;
    let object = object::File::parse(&*bytes)?;
    let text = object.section_by_name(".text").ok_or("no code")?;
    let module = Module {
        stamp: 0,
        start: 0,
        end: u64::MAX,
        bias: 0,
        path: file.into(),
        build_id: object.build_id()?.unwrap_or_default().into(),
    };
    for _ in 0..3 {
        let begin = Instant::now();
        let mut symbols = Symbols::new(std::slice::from_ref(&module), u64::MAX);
        let (mut frames, mut lines) = (0, 0);
        for number in 0..addresses {
            let found = symbols.frames(text.address() + text.size() * number / addresses + 1);
            frames += found.len();
            lines += found.iter().filter(|frame| frame.line.is_some()).count();
        }
        let elapsed = begin.elapsed();
        println!("{addresses} addresses, {frames} frames, {lines} with a line, in {elapsed:.0?}");
    }
    Ok(())
}
