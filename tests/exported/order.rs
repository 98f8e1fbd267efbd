//! The order in which Keras counts the layers of a functional model: by their distance from the output, the farthest
//! first; of equals, that first which a walk from the output meets first.

use std::collections::HashMap;

use serde_json::Value;

use crate::keras::inputs;

/// `layers` in that order; `last` is the name of the output's.
pub fn of<'a>(layers: &'a [Value], last: &'a str) -> Vec<&'a Value> {
    let by_name = |layer: &'a Value| (layer["name"].as_str().unwrap(), layer);
    let by_name: HashMap<&str, &Value> = layers.iter().map(by_name).collect();
    let mut met = Vec::new();
    walk(last, &by_name, &mut met);
    assert_eq!(met.len(), layers.len());
    let mut ordered = met.clone();
    // A stable sort.
    ordered.sort_by_key(|name| std::cmp::Reverse(distance(name, &met, &by_name)));
    ordered.iter().map(|name| by_name[name]).collect()
}

/// Adds `name`, if it is new, and then the layers before it.
fn walk<'a>(name: &'a str, by_name: &HashMap<&str, &'a Value>, met: &mut Vec<&'a str>) {
    if name.is_empty() || met.contains(&name) {
        return;
    }
    met.push(name);
    for input in inputs(by_name[name]) {
        walk(input, by_name, met);
    }
}

/// The longest way from `name` to the output, in layers.
fn distance(name: &str, all: &[&str], by_name: &HashMap<&str, &Value>) -> usize {
    let takes = |other: &&&str| inputs(by_name[**other]).any(|input| input == name);
    let next = all.iter().filter(takes);
    next.map(|other| 1 + distance(other, all, by_name))
        .max()
        .unwrap_or(0)
}
