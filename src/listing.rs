//! Lists of things in the form that `--format` asks for.
//!
//! | `--format` | shown |
//! |---|---|
//! | none, `table` | the usual columns under their headers |
//! | `table TEMPLATE` | the columns of the template (`\t` between them) under their headers |
//! | `json` | one JSON object a line, with every field |
//! | `TEMPLATE` | the template, once for each row |

use serde_json::{Map, Value};

use crate::shown::{shown, shown_json};
use crate::table::Table;
use crate::template::{Template, TemplateError};

/// A field of a row and the header above its column.
pub(crate) type Field = (&'static str, &'static str);

/// How rows are shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Format {
    /// The usual columns.
    Table,
    /// The columns of a template.
    TableOf(Template),
    /// One JSON object a line.
    Json,
    /// A template for each row.
    Custom(Template),
}

impl Format {
    /// Reads the value of `--format`.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] when it is no template.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, TemplateError> {
        match text.map(str::trim_start) {
            None | Some("" | "table") => Ok(Self::Table),
            Some("json") => Ok(Self::Json),
            Some(text) => match text.strip_prefix("table ").or_else(|| text.strip_prefix("table\\t")) {
                Some(columns) => Template::parse(columns.trim_start()).map(Self::TableOf),
                None => Template::parse(text).map(Self::Custom),
            },
        }
    }
}

/// Rows with the same fields.
#[derive(Debug)]
pub(crate) struct Listing {
    fields: &'static [Field],
    columns: Vec<&'static str>,
    rows: Vec<Map<String, Value>>,
}

impl Listing {
    /// Starts a list of rows with `fields`; `columns` are those that a plain table shows.
    pub(crate) fn new(fields: &'static [Field], columns: &[&'static str]) -> Self {
        Self { fields, columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: one value for each field, in their order.
    pub(crate) fn row(&mut self, values: Vec<String>) {
        debug_assert_eq!(values.len(), self.fields.len(), "a row has a value for each field");
        let named = self.fields.iter().zip(values);
        self.rows.push(named.map(|((name, _), value)| ((*name).to_owned(), Value::String(shown(&value)))).collect());
    }

    /// Lays the rows out.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] when the template asks for what a row does not have.
    pub(crate) fn render(&self, format: &Format) -> Result<String, TemplateError> {
        match format {
            Format::Table => Ok(self.plain_table()),
            Format::TableOf(template) => self.table_of(template),
            Format::Json => Ok(self.rows.iter().map(json_line).collect()),
            Format::Custom(template) => {
                let rows = self.rows.iter().map(|row| template.render(&Value::Object(row.clone())));
                rows.map(|row| row.map(|row| row + "\n")).collect()
            }
        }
    }

    /// Returns the rows as JSON objects.
    pub(crate) fn objects(&self) -> Value {
        Value::Array(self.rows.iter().cloned().map(Value::Object).collect())
    }

    fn plain_table(&self) -> String {
        let header: Vec<&str> = self.columns.iter().map(|column| self.header(column)).collect();
        let mut table = Table::new(&header);
        let cell = |row: &Map<String, Value>, column: &str| row[column].as_str().unwrap_or_default().to_owned();
        for row in &self.rows {
            table.row(self.columns.iter().map(|column| cell(row, column)).collect());
        }
        table.render()
    }

    fn table_of(&self, template: &Template) -> Result<String, TemplateError> {
        let cells = |row: &Map<String, Value>| -> Result<Vec<String>, TemplateError> {
            let line = template.render(&Value::Object(row.clone()))?;
            Ok(line.split('\t').map(str::to_owned).collect())
        };
        let headers = self.fields.iter().map(|(name, header)| ((*name).to_owned(), Value::from(*header))).collect();
        let header = cells(&headers)?;
        let mut table = Table::new(&header.iter().map(String::as_str).collect::<Vec<_>>());
        for row in &self.rows {
            table.row(cells(row)?);
        }
        Ok(table.render())
    }

    fn header(&self, column: &str) -> &'static str {
        self.fields.iter().find(|(name, _)| *name == column).map_or("", |(_, header)| header)
    }
}

fn json_line(row: &Map<String, Value>) -> String {
    shown_json(&Value::Object(row.clone()).to_string()) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [Field; 2] = [("ID", "IMAGE ID"), ("Tag", "TAG")];

    fn check(format: Option<&str>, expected: &str) {
        let mut listing = Listing::new(&FIELDS, &["Tag", "ID"]);
        listing.row(vec!["ab".to_owned(), "latest".to_owned()]);
        assert_eq!(listing.render(&Format::parse(format).unwrap()).unwrap(), expected, "{format:?}");
    }

    #[test]
    fn rows_are_shown_as_the_format_says() {
        check(None, "TAG       IMAGE ID\nlatest    ab\n");
        check(Some("table"), "TAG       IMAGE ID\nlatest    ab\n");
        check(Some("table {{.ID}}\\t{{.Tag}}"), "IMAGE ID   TAG\nab         latest\n");
        check(Some("json"), "{\"ID\":\"ab\",\"Tag\":\"latest\"}\n");
        check(Some("{{.Tag}}={{json .ID}}"), "latest=\"ab\"\n");
    }

    #[test]
    fn a_field_that_no_row_has_is_refused() {
        let listing = Listing::new(&FIELDS, &["Tag"]);
        assert!(listing.render(&Format::parse(Some("table {{.Nope}}")).unwrap()).is_err());
        assert!(Format::parse(Some("{{.")).is_err());
    }
}
