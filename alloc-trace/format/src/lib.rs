//! The recording format of alloc-trace: records, encoder, decoder, salvage.
