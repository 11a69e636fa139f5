//! What packing costs on a recording: `packing FILE [ROUNDS]`. The chunks of its log are packed, compressed
//! and unpacked again; prints bytes an event, of each column too, and nanoseconds an event. Make FILE with
//! `compress=off`. The compressor is set as the recorder's is at level 1.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use alloc_trace_format::{
    BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Codec, Effort, FILE_HEADER_BYTES, HeapSpace,
    Packer, Unpacker,
};
use zstd_safe::{CParameter, ParamSwitch};

/// The rows of all chunks of the log, and how many events each has.
fn chunks(file: &[u8]) -> Vec<(u32, &[u8])> {
    let mut chunks = Vec::new();
    let mut at = FILE_HEADER_BYTES;
    while let Some(header) = file.get(at..).and_then(BlockHeader::decode) {
        let payload = file.get(at + BLOCK_HEADER_BYTES..).unwrap_or_default();
        let payload = payload.get(..header.stored_bytes as usize).unwrap_or_default();
        if header.kind == BlockKind::Chunk && header.codec == Codec::Plain {
            chunks.push((header.events, payload));
        }
        at += header.span_bytes() as usize;
    }
    chunks
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        eprintln!("usage: packing FILE [ROUNDS]");
        return ExitCode::from(2);
    };
    let rounds: u32 = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let file = match std::fs::read(&path) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::from(1);
        }
    };
    let chunks = chunks(&file);
    let events: u64 = chunks.iter().map(|&(events, _)| u64::from(events)).sum();
    let (mut packer, mut space) = (Packer::new(), HeapSpace::default());
    let mut unpacker = Unpacker::default();
    let mut contexts =
        [(1, ParamSwitch::Auto), (-131_072, ParamSwitch::Enable)].map(|(level, literals)| {
            let mut context = zstd_safe::CCtx::create();
            let set = [
                CParameter::CompressionLevel(level),
                CParameter::LiteralCompressionMode(literals),
                CParameter::ContentSizeFlag(false),
                CParameter::MinMatch(7),
                CParameter::HashLog(12),
            ];
            for parameter in set {
                context.set_parameter(parameter).expect("a parameter that zstd has");
            }
            context
        });
    let (mut out, mut rows) = (vec![0; 1 << 20], Vec::new());
    let (mut packing, mut compressing, mut unpacking) = <(Duration, Duration, Duration)>::default();
    let (mut raw_bytes, mut packed_bytes) = (0, 0);
    let mut columns = [(0, 0); 22];
    for _ in 0..rounds {
        for &(_, payload) in &chunks {
            let begin = Instant::now();
            let mut within = Duration::ZERO;
            let length = packer.pack(space.lend(), payload, &mut out, |effort, column, room| {
                let begin = Instant::now();
                let found = if column.len() < 32 {
                    None
                } else {
                    contexts[usize::from(effort == Effort::Bytes)].compress2(room, column).ok()
                };
                within += begin.elapsed();
                found
            });
            packing += begin.elapsed() - within;
            compressing += within;
            let length = length.expect("a chunk that can be packed");
            for (sum, lengths) in columns.iter_mut().zip(out[4..].chunks_exact(8)) {
                sum.0 += u32::from_le_bytes([lengths[0], lengths[1], lengths[2], lengths[3]]);
                sum.1 += u32::from_le_bytes([lengths[4], lengths[5], lengths[6], lengths[7]]);
            }
            raw_bytes += payload.len();
            packed_bytes += length;
            let begin = Instant::now();
            rows.clear();
            unpacker.unpack(&out[..length], payload.len() as u32, &mut rows).expect("unpacks");
            unpacking += begin.elapsed();
            assert!(rows == payload, "what was packed comes back");
        }
    }
    let events = (events * u64::from(rounds)) as f64;
    for (index, (raw, stored)) in columns.into_iter().enumerate() {
        let (raw, stored) = (f64::from(raw) / events, f64::from(stored) / events);
        println!("column {index:2}: {raw:.3} -> {stored:.3}");
    }
    let ns = |time: Duration| time.as_nanos() as f64 / events;
    println!(
        "{} chunks, {:.0} events; bytes an event: rows {:.2}, packed {:.2}; ns an event: packing {:.1}, compressing {:.1}, unpacking {:.1}",
        chunks.len(),
        events / f64::from(rounds),
        raw_bytes as f64 / events,
        packed_bytes as f64 / events,
        ns(packing),
        ns(compressing),
        ns(unpacking),
    );
    ExitCode::SUCCESS
}
