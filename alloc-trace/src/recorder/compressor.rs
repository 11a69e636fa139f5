//! The compressor of columns: zstd in memory of ours, since a hook does not allocate.

use std::ffi::{c_int, c_void};
use std::ptr;

use alloc_trace_format::Effort;
use zstd_safe::zstd_sys::{
    ZSTD_CCtx, ZSTD_CCtx_setParameter, ZSTD_cParameter, ZSTD_compress2, ZSTD_initStaticCCtx,
    ZSTD_isError,
};

/// The levels that can be asked for.
pub(super) const LEVELS: std::ops::RangeInclusive<i32> = 1..=9;
/// Measured on recorded programs: the next ones take longer for about the same size.
pub(super) const DEFAULT_LEVEL: i32 = 1;

/// Measured on columns: at level 1 matches of five and six bytes, which zstd takes there, cost a fifth of the
/// time and save nothing, and a table of more than 16 KiB only takes the program's place in the cache.
const SHORTEST_MATCH_BYTES: i32 = 7;
const TABLE_BYTES_LOG2: i32 = 14;

/// At zstd's least level it looks for next to no matches.
const BYTES_LEVEL: i32 = -(1 << 17);
/// Whether literals are compressed: as the level has it, or always. At negative levels they would not be.
const LITERALS_AUTO: i32 = 0;
const LITERALS_ALWAYS: i32 = 1;

/// What zstd needs for the highest of the levels and a column of the longest length.
pub(super) const WORKSPACE_BYTES: usize = 2 << 20;

/// Columns shorter than this are stored as they are: a frame's head alone has ten bytes.
const SHORTEST_BYTES: usize = 32;

/// A zstd context in a workspace that was given to it. Zeroed memory is one that has none.
#[derive(Debug)]
pub(super) struct Compressor {
    context: *mut ZSTD_CCtx,
    workspace: *mut u8,
    /// The level that is set.
    level: i32,
}

impl Compressor {
    /// A compressor that will work in `WORKSPACE_BYTES` at `workspace`, aligned to eight bytes.
    pub(super) const fn new(workspace: *mut u8) -> Self {
        Self { context: ptr::null_mut(), workspace, level: 0 }
    }

    /// Compresses `input` into `output`, at `level` where matches are to be looked for; answers how many bytes that took, `None` where it
    /// did not become shorter.
    pub(super) fn compress(
        &mut self,
        effort: Effort,
        level: i32,
        input: &[u8],
        output: &mut [u8],
    ) -> Option<usize> {
        let level = if effort == Effort::Bytes { BYTES_LEVEL } else { level };
        if input.len() < SHORTEST_BYTES || !self.prepare(level) {
            return None;
        }
        let room = output.len().min(input.len() - 1);
        // SAFETY: the context is whole, and both slices are as long as stated.
        let written = unsafe {
            ZSTD_compress2(
                self.context,
                output.as_mut_ptr().cast(),
                room,
                input.as_ptr().cast(),
                input.len(),
            )
        };
        // SAFETY: the function only looks at the number.
        (unsafe { ZSTD_isError(written) } == 0).then_some(written)
    }

    fn prepare(&mut self, level: i32) -> bool {
        if self.context.is_null() {
            let workspace = self.workspace.cast::<c_void>();
            // SAFETY: the workspace is as long as stated, aligned, and this compressor's alone.
            self.context = unsafe { ZSTD_initStaticCCtx(workspace, WORKSPACE_BYTES) };
            self.level = 0;
        }
        if self.context.is_null() {
            return false;
        }
        if self.level != level {
            let literals = if level < 0 { LITERALS_ALWAYS } else { LITERALS_AUTO };
            // 0 stands for what zstd takes for the level.
            let (shortest_match, table) = match level {
                1 => (SHORTEST_MATCH_BYTES, TABLE_BYTES_LOG2 - 2),
                _ => (0, 0),
            };
            let parameters = [
                (ZSTD_cParameter::ZSTD_c_compressionLevel, level),
                // By its stable name `ZSTD_c_literalCompressionMode`.
                (ZSTD_cParameter::ZSTD_c_experimentalParam5, literals),
                (ZSTD_cParameter::ZSTD_c_minMatch, shortest_match),
                (ZSTD_cParameter::ZSTD_c_hashLog, table),
                (ZSTD_cParameter::ZSTD_c_contentSizeFlag, 0),
            ];
            for (parameter, value) in parameters {
                // SAFETY: the context is whole.
                unsafe { ZSTD_CCtx_setParameter(self.context, parameter, value as c_int) };
            }
            self.level = level;
        }
        true
    }
}

/// How much of a workspace a level needs for a column of this length.
#[cfg(test)]
fn needed_bytes(level: i32, column_bytes: usize) -> usize {
    use zstd_safe::zstd_sys::{ZSTD_estimateCCtxSize_usingCParams, ZSTD_getCParams};
    // SAFETY: the function computes.
    let parameters = unsafe { ZSTD_getCParams(level, column_bytes as u64, 0) };
    // SAFETY: as above.
    unsafe { ZSTD_estimateCCtxSize_usingCParams(parameters) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_fits_its_workspace_and_comes_back() {
        for level in LEVELS.chain([BYTES_LEVEL]) {
            let needed = needed_bytes(level, 128 << 10);
            assert!(needed <= WORKSPACE_BYTES, "level {level} needs {needed} bytes");
        }
        let mut workspace = vec![0u64; WORKSPACE_BYTES / 8];
        let mut compressor = Compressor::new(workspace.as_mut_ptr().cast());
        let mut output = vec![0; 200_000];
        for length in [100, 5_000, 65_536, 131_072] {
            let input: Vec<u8> = (0..length).map(|n: usize| (n * n / 7) as u8 & 0x1f).collect();
            for level in LEVELS {
                for effort in [Effort::Matches, Effort::Bytes] {
                    let written = compressor.compress(effort, level, &input, &mut output);
                    let written = written.expect("shorter");
                    let mut back = vec![0; length];
                    zstd_safe::decompress(back.as_mut_slice(), &output[..written])
                        .expect("a frame");
                    assert_eq!(back, input, "{effort:?}, level {level}, {length} bytes");
                }
            }
        }
    }

    #[test]
    fn what_does_not_become_shorter_is_refused() {
        let mut workspace = vec![0u64; WORKSPACE_BYTES / 8];
        let mut compressor = Compressor::new(workspace.as_mut_ptr().cast());
        let mut random = 1u64;
        let noise: Vec<u8> = (0..4_096)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 56) as u8
            })
            .collect();
        assert_eq!(compressor.compress(Effort::Matches, 1, &noise, &mut [0; 8_192]), None);
        assert_eq!(
            compressor.compress(Effort::Matches, 1, &[0; 16], &mut [0; 64]),
            None,
            "too short to gain"
        );
    }
}
