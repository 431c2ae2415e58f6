//! Tables for people.
//!
//! Goes in: a header and rows. Comes out: aligned columns. Invariant: the last column is not
//! padded.

/// Aligned columns with two blanks between them.
#[must_use]
pub fn render_table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let padding = width - cell.chars().count() + 2;
            line.push_str(cell);
            line.push_str(&" ".repeat(padding));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_aligned() {
        let rows = vec![
            vec!["a".into(), "wide cell".into()],
            vec!["longer".into(), "b".into()],
        ];
        let table = super::render_table(&["ONE", "TWO"], &rows);
        assert_eq!(table, "ONE     TWO\na       wide cell\nlonger  b\n");
    }
}
