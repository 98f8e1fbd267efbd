//! What stands in place of the registry: tiny wheels, and a `python3` that "downloads" them by copying.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::checkout::{Checkout, find_in_path};
use crate::ran::run_ok;

/// The pinned sum of libclang's wheel.
const LIBCLANG_SUM: &str = "c533091d8a3bbf7460a00cb6c1a71da93bffe148f172c7d03b1c31fbf8aa2a0b";

impl Checkout {
    /// Packs `content` into a wheel as `member` and pins it in `pins_file` in place of the wheel with the sum `old_sum`.
    pub fn pin_wheel(
        &self,
        member: &str,
        content: &str,
        pins_file: &str,
        old_sum: &str,
    ) -> PathBuf {
        let file = self.path("unpacked").join(member);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        self.pin_unpacked(pins_file, old_sum)
    }

    /// Packs what lies in `unpacked` into a wheel, `registry.whl`, and pins it like [`Self::pin_wheel`].
    pub fn pin_unpacked(&self, pins_file: &str, old_sum: &str) -> PathBuf {
        let unpacked = self.path("unpacked");
        let wheel = self.path("registry.whl");
        let tops = fs::read_dir(&unpacked).unwrap();
        run_ok(
            Command::new("python3")
                .args(["-m", "zipfile", "-c"])
                .arg(&wheel)
                .args(tops.map(|entry| entry.unwrap().file_name()))
                .current_dir(&unpacked),
        );
        let sum = run_ok(Command::new("sha256sum").arg(&wheel));
        let pins = fs::read_to_string(self.path(pins_file)).unwrap();
        assert!(pins.contains(old_sum), "{pins_file} does not pin {old_sum}");
        fs::write(self.path(pins_file), pins.replace(old_sum, &sum[..64])).unwrap();
        wheel
    }

    pub fn pin_libclang(&self) -> PathBuf {
        self.pin_wheel(
            "libclang-18.1.1.data/platlib/clang/native/libclang.so",
            "libclang for a test",
            "xla_runtime/wheels.txt",
            LIBCLANG_SUM,
        )
    }

    /// Pins a libclang that pip itself takes for one, the only file in the folder `mirror`.
    pub fn mirror_libclang(&self) {
        let described = self.path("unpacked/libclang-18.1.1.dist-info");
        fs::create_dir_all(&described).unwrap();
        for (file, text) in [
            (
                "METADATA",
                "Metadata-Version: 2.1\nName: libclang\nVersion: 18.1.1\n",
            ),
            (
                "WHEEL",
                "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py2-none-manylinux2010_x86_64\n",
            ),
            ("RECORD", ""),
        ] {
            fs::write(described.join(file), text).unwrap();
        }
        let wheel = self.pin_libclang();
        fs::create_dir(self.path("mirror")).unwrap();
        let name = "mirror/libclang-18.1.1-py2.py3-none-manylinux2010_x86_64.whl";
        fs::rename(wheel, self.path(name)).unwrap();
    }

    /// Makes `pip download` bring what [`Self::pin_wheel`] packed.
    pub fn serve_pinned_wheel(&self) {
        self.replace_pip_download("cp \"${0%/*}/../registry.whl\" \"$dest\"/");
    }

    /// Makes `pip download` run `script`, in which $dest is the folder to download into; notes each call in `calls`.
    pub fn replace_pip_download(&self, script: &str) {
        let python = find_in_path("python3");
        self.replace_tool(
            "python3",
            &format!(
                r#"case "$*" in
*"pip download"*)
    echo called >>"${{0%/*}}/../calls"
    while [ "$1" != --dest ]; do shift; done
    dest=$2
    {script} ;;
*) exec "{python}" "$@" ;;
esac"#,
                python = python.display(),
            ),
        );
    }

    pub fn downloads(&self) -> usize {
        fs::read_to_string(self.path("calls"))
            .unwrap_or_default()
            .lines()
            .count()
    }
}
