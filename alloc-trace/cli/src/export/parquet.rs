//! Parquet with a row for each block, for DuckDB, pandas, Spark and their like.

use std::io::{self, Write};
use std::sync::Arc;

use alloc_trace_analysis::BlockRow;
use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use rustc_hash::FxHashMap;

use crate::export::rows::Row;

/// The columns, in the order of [`Row`] and of [`Columns::add`].
const SCHEMA: &str = "message block {
    required int64 address (INTEGER(64, false));
    required int64 size (INTEGER(64, false));
    required int64 align (INTEGER(64, false));
    required binary kind (UTF8);
    required int64 allocated_ns (INTEGER(64, false));
    optional int64 freed_ns (INTEGER(64, false));
    optional int64 lifetime_ns (INTEGER(64, false));
    optional binary release (UTF8);
    required boolean temporary;
    required binary function (UTF8);
    optional binary file (UTF8);
    optional int32 line (INTEGER(32, false));
    optional binary span (UTF8);
    optional binary span_path (UTF8);
    optional binary span_fields (UTF8);
    required int32 thread (INTEGER(32, false));
    optional binary thread_name (UTF8);
    optional int32 free_thread (INTEGER(32, false));
    optional binary free_thread_name (UTF8);
    optional binary free_function (UTF8);
    optional binary free_file (UTF8);
    optional int32 free_line (INTEGER(32, false));
}";

/// As many rows are held in memory and written together.
const GROUP_ROWS: usize = 1 << 18;

/// Writes blocks as they come.
pub(crate) struct Writer<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Columns,
}

impl<W: Write + Send> Writer<W> {
    pub(crate) fn new(out: W) -> io::Result<Self> {
        let schema = parse_message_type(SCHEMA).map_err(error)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("alloc-trace ", env!("CARGO_PKG_VERSION")).into())
            .build();
        let file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties));
        Ok(Self { file: file.map_err(error)?, columns: Columns::default() })
    }

    pub(crate) fn add(&mut self, block: &BlockRow<'_>) -> io::Result<()> {
        self.columns.add(&Row::new(block));
        if self.columns.rows == GROUP_ROWS { self.write_group() } else { Ok(()) }
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.columns.rows > 0 {
            self.write_group()?;
        }
        self.file.close().map(drop).map_err(error)
    }

    fn write_group(&mut self) -> io::Result<()> {
        let mut group = self.file.next_row_group().map_err(error)?;
        let mut columns = self.columns.columns.iter_mut();
        while let Some(mut writer) = group.next_column().map_err(error)? {
            if let Some(column) = columns.next() {
                column.write(&mut writer).map_err(error)?;
            }
            writer.close().map_err(error)?;
        }
        self.columns.rows = 0;
        group.close().map(drop).map_err(error)
    }
}

/// What went wrong below is told as it is: a full disk must stay one, and a closed pipe too.
fn error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => *source,
            Err(source) => io::Error::other(source),
        },
        other => io::Error::other(other),
    }
}

/// A value of a row.
#[derive(Debug, Clone, Copy)]
enum Cell<'a> {
    Bool(bool),
    U32(Option<u32>),
    U64(Option<u64>),
    Text(Option<&'a str>),
}

/// The rows of a group, by column.
#[derive(Debug, Default)]
struct Columns {
    rows: usize,
    columns: Vec<Column>,
    /// Each text once, however many rows have it.
    texts: FxHashMap<Box<str>, ByteArray>,
}

impl Columns {
    fn add(&mut self, row: &Row<'_>) {
        let cells = [
            Cell::U64(Some(row.address)),
            Cell::U64(Some(row.size)),
            Cell::U64(Some(row.align)),
            Cell::Text(Some(row.kind)),
            Cell::U64(Some(row.allocated_ns)),
            Cell::U64(row.freed_ns),
            Cell::U64(row.lifetime_ns),
            Cell::Text(row.release),
            Cell::Bool(row.temporary),
            Cell::Text(Some(row.function)),
            Cell::Text(row.file),
            Cell::U32(row.line),
            Cell::Text(row.span),
            Cell::Text(row.span_path.as_deref()),
            Cell::Text(row.span_fields),
            Cell::U32(Some(row.thread)),
            Cell::Text(row.thread_name),
            Cell::U32(row.free_thread),
            Cell::Text(row.free_thread_name),
            Cell::Text(row.free_function),
            Cell::Text(row.free_file),
            Cell::U32(row.free_line),
        ];
        self.columns.resize_with(cells.len(), Column::default);
        for (cell, column) in cells.into_iter().zip(&mut self.columns) {
            column.add(cell, &mut self.texts);
        }
        self.rows += 1;
    }
}

/// The values of a column, all of them in one of the lists. A level says for each row whether it has
/// a value; a column that must have one ignores them.
#[derive(Debug, Default)]
struct Column {
    levels: Vec<i16>,
    bools: Vec<bool>,
    u32s: Vec<i32>,
    u64s: Vec<i64>,
    texts: Vec<ByteArray>,
}

impl Column {
    fn add(&mut self, cell: Cell<'_>, texts: &mut FxHashMap<Box<str>, ByteArray>) {
        let there = match cell {
            Cell::Bool(_) => true,
            Cell::U32(number) => number.is_some(),
            Cell::U64(number) => number.is_some(),
            Cell::Text(text) => text.is_some(),
        };
        self.levels.push(i16::from(there));
        match cell {
            Cell::Bool(value) => self.bools.push(value),
            // Parquet knows unsigned numbers by annotation only: the bits stay as they are.
            Cell::U32(number) => self.u32s.extend(number.map(u32::cast_signed)),
            Cell::U64(number) => self.u64s.extend(number.map(u64::cast_signed)),
            Cell::Text(None) => {}
            Cell::Text(Some(text)) => {
                let shared = match texts.get(text) {
                    Some(shared) => shared.clone(),
                    None => {
                        let shared = ByteArray::from(text.as_bytes().to_vec());
                        texts.insert(text.into(), shared.clone());
                        shared
                    }
                };
                self.texts.push(shared);
            }
        }
    }

    /// Writes and forgets the values.
    fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        use parquet::column::writer::ColumnWriter;
        let levels = Some(self.levels.as_slice());
        match writer.untyped() {
            ColumnWriter::BoolColumnWriter(_) => {
                writer.typed::<BoolType>().write_batch(&self.bools, levels, None)?;
            }
            ColumnWriter::Int32ColumnWriter(_) => {
                writer.typed::<Int32Type>().write_batch(&self.u32s, levels, None)?;
            }
            ColumnWriter::Int64ColumnWriter(_) => {
                writer.typed::<Int64Type>().write_batch(&self.u64s, levels, None)?;
            }
            _ => {
                writer.typed::<ByteArrayType>().write_batch(&self.texts, levels, None)?;
            }
        }
        self.levels.clear();
        self.bools.clear();
        self.u32s.clear();
        self.u64s.clear();
        self.texts.clear();
        Ok(())
    }
}
