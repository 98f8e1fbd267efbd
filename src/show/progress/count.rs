//! A bar for things that are counted.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::system::logger::bar_can_be_drawn;

/// How many of a number of things are done, on a terminal; elsewhere nothing. Dropping it removes the bar.
pub struct Count {
    terminal: MultiProgress,
    /// Hidden unless a bar can be drawn.
    bar: ProgressBar,
}

impl Count {
    /// None of `all` things, called `what`, are done.
    pub fn start(terminal: MultiProgress, what: &str, all: usize) -> Self {
        let bar = match bar_can_be_drawn() {
            true => terminal.add(ProgressBar::new(all as u64)),
            false => ProgressBar::hidden(),
        };
        bar.set_style(style());
        bar.set_prefix(what.to_owned());
        Self { terminal, bar }
    }

    /// `more` things are done.
    pub fn add(&self, more: usize) {
        self.bar.inc(more as u64);
    }

    /// Runs `print`, which writes to the same terminal, while the bar is out of the way.
    pub fn making_room<T>(&self, print: impl FnOnce() -> T) -> T {
        match self.bar.is_hidden() {
            true => print(),
            false => self.terminal.suspend(print),
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.terminal.remove(&self.bar);
    }
}

fn style() -> ProgressStyle {
    let template = "{prefix} [{wide_bar:.cyan}] {human_pos}/{human_len} {per_sec}, {eta} left";
    ProgressStyle::with_template(template)
        // The template is a constant, and a test draws it.
        .expect("the template of the count is well-formed")
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use indicatif::{InMemoryTerm, ProgressDrawTarget};

    use super::*;

    #[test]
    fn the_bar_says_how_many_are_done() {
        let screen = InMemoryTerm::new(5, 80);
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let terminal = MultiProgress::with_draw_target(target);
        let bar = terminal.add(ProgressBar::new(2000));
        bar.set_style(style());
        bar.set_prefix("pictures");
        let count = Count { terminal, bar };
        count.add(1500);
        let shown = screen.contents();
        assert!(
            shown.starts_with("pictures [====") && shown.contains("] 1,500/2,000 "),
            "{shown}"
        );
        drop(count);
        assert_eq!(screen.contents(), "");
    }
}
