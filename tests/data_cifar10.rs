//! The real CIFAR-10, when it is there: `resnet-xla fetch` puts it into `data/`.

use std::path::Path;

use resnet_xla::data::{DatasetKind, Normalization, PictureOptions, load};

#[test]
fn cifar_10_has_the_published_shapes_labels_and_statistics() {
    let data_dir = Path::new("data");
    if !data_dir
        .join("cifar-10-batches-bin/test_batch.bin")
        .exists()
    {
        println!("skipped: CIFAR-10 is not in {}", data_dir.display());
        return;
    }
    let dataset = load(DatasetKind::Cifar10, data_dir, PictureOptions::default()).unwrap();
    assert_eq!(dataset.train.images.dim(), (50_000, 32, 32, 3));
    assert_eq!(dataset.train.labels.len(), 50_000);
    assert_eq!(dataset.test.images.dim(), (10_000, 32, 32, 3));
    assert_eq!(dataset.test.labels.len(), 10_000);
    let first: Vec<u16> = dataset.test.labels.iter().take(10).copied().collect();
    assert_eq!(first, [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]);

    // Computed with numpy in double precision.
    let normalization = Normalization::of(&dataset.train);
    let expected = [
        (normalization.mean, [125.3069, 122.9504, 113.8654]),
        (normalization.std, [62.9932, 62.0887, 66.7049]),
    ];
    for (got, expected) in expected {
        for (got, expected) in got.into_iter().zip(expected) {
            assert!(
                (got - expected).abs() < 1e-4,
                "expected {expected}, got {got}"
            );
        }
    }
}
