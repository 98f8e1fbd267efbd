//! The page of a run: complete in itself, and alive in a browser.

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use program::runs::quick_run;
use program::{fail, succeed, text};
use serde_json::Value;

/// A short run on the sample; returns its report.
fn report_of_a_run(folder: &Path) -> PathBuf {
    let out = folder.join("a <b> run");
    let options = "--epochs 2 --steps-per-epoch 3 --eval-steps 3 --lr-drops 1:0.005";
    succeed(&quick_run(&out, options));
    out.join("report.html")
}

#[test]
fn the_report_tells_everything_and_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = report_of_a_run(folder.path());
    let page = fs::read_to_string(&path).unwrap();
    let history = fs::read_to_string(path.with_file_name("history.csv")).unwrap();
    let last: Vec<f64> = history
        .lines()
        .last()
        .unwrap()
        .split(',')
        .map(|field| field.parse().unwrap())
        .collect();
    for part in [
        "ResNet-11 v2 on sample",
        &format!("{:.2} %", 100.0 * last[4]),
        &format!("{:.4}", last[3]),
        "of 24 images",
        "128,122",
        "Confusion matrix",
        "The most confident mistakes",
        "Where the time went",
        "lr-drops = &#34;1:0.005&#34;",
        "a &#60;b&#62; run/config.toml&#39; --out-dir runs/again",
    ] {
        assert!(page.contains(part), "no {part}");
    }
    // Ten tutorial images and the mistakes, as PNG files.
    let pictures = page.matches("src=\"data:image/png;base64,iVBOR").count();
    assert!(
        pictures > 10 && pictures == page.matches("<img ").count(),
        "{pictures}"
    );
    // The only address is the name of a namespace, in the script that draws.
    assert_eq!(page.matches("://").count(), 1);
    assert!(page.contains("createElementNS(\"http://www.w3.org/2000/svg\""));
    assert!(!page.contains("<link") && !page.contains("<b> run"));
    let counts = confusions(&page);
    assert_eq!((counts.len(), counts.iter().sum::<usize>()), (100, 24));

    // Made again from the run's folder: the run scored 24 images, the command scores all.
    let again = folder.path().join("again.html");
    let run = path.parent().unwrap();
    succeed(&[
        "report",
        "--device",
        "cpu",
        "--checkpoint",
        text(run),
        "--out",
        text(&again),
    ]);
    let counts = confusions(&fs::read_to_string(&again).unwrap());
    assert_eq!(counts.iter().sum::<usize>(), 500);
}

/// The counts of the page's confusion matrix.
fn confusions(page: &str) -> Vec<usize> {
    let body = page.split("<tbody>").nth(1).unwrap();
    let cells = body.split("</tbody>").next().unwrap().split("<td ").skip(1);
    cells
        .map(|cell| {
            let start = cell.find('>').unwrap() + 1;
            cell[start..cell.find("</td>").unwrap()].parse().unwrap()
        })
        .collect()
}

/// The first of the usual browsers that is there.
fn browser() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok())
}

/// Frames the page at the width of a phone, points at a curve's right end, and writes what it sees into the
/// document as JSON.
fn probe(page: &str) -> String {
    let escaped = page.replace('&', "&amp;").replace('"', "&quot;");
    format!(
        r#"<iframe id="frame" width="390" height="900" srcdoc="{escaped}"></iframe><pre id="seen"></pre><script>
const frame = document.getElementById("frame");
const waiting = setInterval(() => {{
  const page = frame.contentDocument;
  const svg = page.querySelector(".chart svg");
  if (page.querySelectorAll(".chart svg").length < 3 || ![...page.images].every((image) => image.complete)) return;
  clearInterval(waiting);
  const box = svg.getBoundingClientRect();
  const at = {{ clientX: box.right - 20, clientY: box.top + 50, bubbles: true }};
  svg.dispatchEvent(new frame.contentWindow.PointerEvent("pointermove", at));
  document.getElementById("seen").textContent = JSON.stringify({{
    width: page.documentElement.scrollWidth,
    curves: page.querySelectorAll(".chart path.line").length,
    drops: page.querySelectorAll(".chart .drop").length,
    tip: page.querySelector(".tip:not([hidden])").innerText,
    broken: [...page.images].filter((image) => image.naturalWidth !== 32).length,
  }});
}}, 100);
</script>"#
    )
}

#[test]
fn in_a_browser_the_curves_are_drawn_and_show_values_and_a_phone_is_wide_enough() {
    let Some(browser) = browser() else {
        println!("skipped: no Chromium or Chrome here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = report_of_a_run(folder.path());
    let probed = folder.path().join("probe.html");
    fs::write(&probed, probe(&fs::read_to_string(&path).unwrap())).unwrap();
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.path().join("profile").display()
        ))
        .arg(format!("file://{}", probed.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8(output.stdout).unwrap();
    let seen = dom.split("<pre id=\"seen\">").nth(1).unwrap();
    let seen = seen.split("</pre>").next().unwrap();
    let seen: Value = serde_json::from_str(seen).unwrap();
    // Training and validation of accuracy and loss, and the learning rate; its drop in two of the three.
    assert_eq!(
        (&seen["curves"], &seen["drops"]),
        (&5.into(), &2.into()),
        "{seen}"
    );
    assert_eq!(seen["broken"], 0, "{seen}");
    assert!(seen["width"].as_u64().unwrap() <= 390, "{seen}");
    let history = fs::read_to_string(path.with_file_name("history.csv")).unwrap();
    let last: Vec<&str> = history.lines().last().unwrap().split(',').collect();
    let rounded = |field: &str| format!("{:.4}", field.parse::<f64>().unwrap());
    let expected = format!(
        "epoch 2\ntrain {}\nvalidation {}",
        rounded(last[2]),
        rounded(last[4])
    );
    assert_eq!(seen["tip"], expected);
}

#[test]
fn a_checkpoint_stands_for_its_run_and_a_file_alone_is_told_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let page = report_of_a_run(folder.path());
    let run = page.parent().unwrap();
    let checkpoints = format!("{}/checkpoints/", text(run));
    let file = format!("{checkpoints}step-00000006.safetensors");
    let report = |checkpoint: &str| {
        fs::remove_file(&page).unwrap();
        let printed = succeed(&["report", "--device", "cpu", "--checkpoint", checkpoint]);
        assert!(printed.starts_with("report: "), "{printed}");
        fs::read_to_string(&page).unwrap()
    };
    for checkpoint in [&file, &checkpoints, &format!("{}/", text(run))] {
        assert!(
            report(checkpoint).contains("ResNet-11 v2 on sample"),
            "{checkpoint}"
        );
        let out = folder.path().join("w.safetensors");
        let line = succeed(&["export", "--checkpoint", checkpoint, "--out", text(&out)]);
        assert!(line.contains("step 6"), "{line}");
        let plots = folder.path().join("plots");
        succeed(&["plot", checkpoint, "--out-dir", text(&plots)]);
        assert!(plots.join("loss.svg").is_file(), "{checkpoint}");
    }
    let alone = folder.path().join("alone.safetensors");
    fs::copy(&file, &alone).unwrap();
    let message = fail(
        &["report", "--device", "cpu", "--checkpoint", text(&alone)],
        2,
    );
    for part in ["alone.safetensors", "config.toml", "the folder of a run"] {
        assert!(message.contains(part), "no {part} in {message}");
    }
}
