//! The five output formats. An answer says of itself how it looks in each; what it does not say is refused as upstream refuses it. Decides nothing else.

pub mod json;
pub mod messages;
pub mod table;

use std::io::Write;

use crate::exit::{self, Failure, Outcome};
pub use table::Table;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Simple,
    Json,
    Fields,
    Table,
    Protobuf,
}

impl Format {
    pub fn parse(name: &str) -> Outcome<Self> {
        Ok(match name {
            "simple" => Self::Simple,
            "json" => Self::Json,
            "fields" => Self::Fields,
            "table" => Self::Table,
            "protobuf" => Self::Protobuf,
            _ => return Err(Failure::new(exit::BAD_FEATURE, "unsupported output format")),
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Json => "json",
            Self::Fields => "fields",
            Self::Table => "table",
            Self::Protobuf => "protobuf",
        }
    }
}

/// What a format may vary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    pub hex: bool,
    /// Keys are left out.
    pub value_only: bool,
}

/// Text that is being written; keys and values in it may be any bytes.
#[derive(Default)]
pub struct Page(pub Vec<u8>);

impl Page {
    pub fn line(&mut self, text: impl AsRef<[u8]>) {
        self.0.extend_from_slice(text.as_ref());
        self.0.push(b'\n');
    }
}

/// Whether an answer has the format.
pub type Known = bool;

pub trait Answer {
    /// By default the rows of the table.
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        let table = self.table();
        if let Some(table) = &table {
            page.0.extend_from_slice(table.lines().as_bytes());
        }
        table.is_some()
    }

    fn json(&self, style: Style) -> Option<String>;

    fn fields(&self, _page: &mut Page) -> Known {
        false
    }

    fn table(&self) -> Option<Table> {
        None
    }

    /// The message, or why there is none; no reason is the usual one.
    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Err(None)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Printer {
    pub format: Format,
    pub style: Style,
}

impl Printer {
    pub fn print(&self, answer: &dyn Answer) -> Outcome {
        self.render(answer).map(|text| say(&text))
    }

    pub fn render(&self, answer: &dyn Answer) -> Outcome<Vec<u8>> {
        let mut page = Page::default();
        let known = match self.format {
            Format::Simple => answer.simple(self.style, &mut page),
            Format::Fields => answer.fields(&mut page),
            Format::Json => match answer.json(self.style) {
                Some(text) => {
                    page.line(text);
                    true
                }
                None => false,
            },
            Format::Table => match answer.table() {
                Some(table) => {
                    page.0.extend_from_slice(table.draw().as_bytes());
                    true
                }
                None => false,
            },
            Format::Protobuf => match answer.protobuf() {
                Ok(message) => {
                    page.0 = message;
                    true
                }
                Err(Some(reason)) => return Err(Failure::new(exit::BAD_FEATURE, reason)),
                Err(None) => false,
            },
        };
        if !known {
            return Err(Failure::new(exit::BAD_FEATURE, format!("{} not supported as output format", self.format.name())));
        }
        Ok(page.0)
    }
}

/// Writes to standard output at once. A reader that has left (`etcdctl get | head`) is no error.
pub fn say(text: &[u8]) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text).and_then(|()| out.flush()) {
        note_fault(&error);
    }
}

/// Prints a line to standard output.
pub fn say_line(text: &str) {
    say(format!("{text}\n").as_bytes());
}

/// Nothing can be told to a reader that is gone; any other fault of standard output is told on the other one.
fn note_fault(error: &std::io::Error) {
    if error.kind() != std::io::ErrorKind::BrokenPipe {
        eprintln!("Error: standard output: {error}");
    }
}

#[cfg(test)]
mod tests;
