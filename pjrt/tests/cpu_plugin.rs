//! The client on the CPU plugin of `./setup cpu-plugin`; without it each test prints why it is skipped.

#[path = "support/installed.rs"]
mod installed;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use installed::installed;
use pjrt::{
    Buffer, Client, LoadedExecutable, PjrtError, Plugin, Program, Value, compile_options,
    compile_options_for,
};

/// a + b, in the place of a.
const SUM: &str = r#"
module @sum {
  func.func public @main(%a: tensor<2x3xf32> {tf.aliasing_output = 0 : i32}, %b: tensor<2x3xf32>)
      -> tensor<2x3xf32> {
    %sum = stablehlo.add %a, %b : tensor<2x3xf32>
    return %sum : tensor<2x3xf32>
  }
}"#;

/// Each device's value, and the sum of all devices' values.
const SUM_OVER_REPLICAS: &str = r#"
module @sum_over_replicas attributes {mhlo.num_replicas = 4 : i32, mhlo.num_partitions = 1 : i32} {
  func.func public @main(%x: tensor<2xi32>) -> (tensor<2xi32>, tensor<2xi32>) {
    %sum = "stablehlo.all_reduce"(%x) ({
      ^bb0(%a: tensor<i32>, %b: tensor<i32>):
        %c = stablehlo.add %a, %b : tensor<i32>
        stablehlo.return %c : tensor<i32>
    }) {replica_groups = dense<[[0, 1, 2, 3]]> : tensor<1x4xi64>} : (tensor<2xi32>) -> tensor<2xi32>
    return %x, %sum : tensor<2xi32>, tensor<2xi32>
  }
}"#;

/// The CPU as `devices` devices.
fn open(devices: i64) -> Option<(Plugin, Client)> {
    let path = installed("cpu/libpjrt_cpu.so", "cpu-plugin")?;
    let plugin = Plugin::load(&path).unwrap();
    let options = [("cpu_device_count", Value::Int(devices))];
    let client = plugin.client(&options).unwrap();
    Some((plugin, client))
}

fn compile(client: &Client, program: &str, options: &[u8]) -> LoadedExecutable {
    client
        .compile(Program::Mlir(program.as_bytes()), options)
        .unwrap()
}

fn upload(client: &Client, values: &[f32], dims: &[usize]) -> Buffer {
    let devices = client.addressable_devices().unwrap();
    client.upload(values, dims, &devices[0]).unwrap()
}

/// What `program`, which has one output, gives for `arguments` on one device.
fn only_output(program: &LoadedExecutable, arguments: Vec<&Buffer>) -> Buffer {
    let mut devices = program.run(&[arguments]).unwrap();
    devices.pop().unwrap().pop().unwrap()
}

/// How long a test waits for what must come, so that a hang does not last for ever. No machine is so slow or so busy.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

const A: [f32; 6] = [1., 2., 3., 4., 5., 6.];
const B: [f32; 6] = [10., 20., 30., 40., 50., 60.];
const A_PLUS_B: [f32; 6] = [11., 22., 33., 44., 55., 66.];

#[test]
fn the_plugin_says_what_it_is_and_what_it_has() {
    let Some((plugin, client)) = open(2) else {
        return;
    };
    assert_eq!(client.platform_name().unwrap(), "cpu");
    println!("{}", client.platform_version().unwrap().unwrap());
    println!("{:?}", plugin.extensions());
    assert!(plugin.extensions().contains(&"FFI".to_owned()));
    assert!(!plugin.attributes().unwrap().is_empty());
    let devices = client.devices().unwrap();
    let names: Vec<_> = devices
        .iter()
        .map(|device| device.name().unwrap())
        .collect();
    println!("{names:?}");
    assert_eq!(devices.len(), 2);
    assert_eq!(client.addressable_devices().unwrap().len(), 2);
    let ids: Vec<_> = devices.iter().map(|device| device.id().unwrap()).collect();
    assert_eq!(ids, [0, 1]);
    for device in &devices {
        assert_eq!(device.kind().unwrap(), "cpu");
        assert_eq!(device.process().unwrap(), 0);
        println!("{:?}", device.attributes().unwrap());
        // This plugin does not count it, which is no error.
        assert!(device.memory().unwrap().is_none());
    }
}

#[test]
fn an_array_comes_back_as_it_went() {
    let Some((_plugin, client)) = open(2) else {
        return;
    };
    let array = upload(&client, &A, &[2, 3]);
    assert_eq!(array.dims().unwrap(), [2, 3]);
    assert_eq!(array.size_on_device().unwrap(), 24);
    array.ready().unwrap().wait().unwrap();
    assert!(array.ready().unwrap().is_ready().unwrap());
    assert_eq!(array.download::<f32>().unwrap(), A);

    let devices = client.addressable_devices().unwrap();
    let number = client.upload(&[-7i32], &[], &devices[1]).unwrap();
    assert_eq!(number.dims().unwrap(), [0usize; 0]);
    assert_eq!(number.download::<i32>().unwrap(), [-7]);
    let pixels: Vec<u8> = (0..=255).collect();
    let pixels_there = client.upload(&pixels, &[4, 4, 16], &devices[1]).unwrap();
    assert_eq!(pixels_there.download::<u8>().unwrap(), pixels);
    let nothing = client.upload(&[0f32; 0], &[3, 0], &devices[0]).unwrap();
    assert!(nothing.download::<f32>().unwrap().is_empty());
}

#[test]
fn what_does_not_fit_is_an_error_that_says_what() {
    let Some((plugin, client)) = open(1) else {
        return;
    };
    let device = &client.addressable_devices().unwrap()[0];
    let error = |result: Result<Buffer, PjrtError>| result.err().unwrap().to_string();
    assert_eq!(
        error(client.upload(&A, &[2, 2], device)),
        "6 values for an array of dimensions [2, 2]"
    );
    let many = [usize::MAX, 2];
    assert!(matches!(
        client.upload(&A, &many, device),
        Err(PjrtError::Count { .. })
    ));
    let array = upload(&client, &A, &[6]);
    assert_eq!(
        array.download::<i32>().unwrap_err().to_string(),
        "the array on the device is of f32; expected i32"
    );
    let other = plugin.client(&[]).unwrap();
    assert_eq!(
        error(other.upload(&A, &[6], device)),
        "the device belongs to another client"
    );

    let sum = compile(&client, SUM, &compile_options(1));
    let (a, b) = (upload(&client, &A, &[2, 3]), upload(&other, &B, &[2, 3]));
    let run = |lists: &[Vec<&Buffer>]| sum.run(lists).err().unwrap().to_string();
    assert_eq!(
        run(&[vec![&a, &b]]),
        "the argument belongs to another client"
    );
    assert_eq!(
        run(&[vec![&a], vec![&a]]),
        "lists of arguments for 2 devices; the program runs on 1"
    );
    // What the program expects only the plugin knows.
    let small = upload(&client, &A[..2], &[2]);
    for wrong in [vec![&a], vec![&a, &array, &array], vec![&a, &small]] {
        let error = run(&[wrong]);
        println!("{error}");
        assert!(
            error.starts_with("PJRT_LoadedExecutable_Execute: "),
            "{error}"
        );
    }
    let compile = |program| client.compile(program, &compile_options(1)).err().unwrap();
    let compile_errors = [Program::Mlir(b"nonsense"), Program::Hlo(b"nonsense")].map(compile);
    let errors = compile_errors
        .into_iter()
        .chain(client.load(b"nonsense", None).err());
    for error in errors {
        println!("{error}");
        assert!(matches!(error, PjrtError::Call { .. }));
    }
}

#[test]
fn an_output_in_the_place_of_an_argument_takes_the_argument() {
    let Some((_plugin, client)) = open(1) else {
        return;
    };
    let sum = compile(&client, SUM, &compile_options(1));
    let (a, b) = (upload(&client, &A, &[2, 3]), upload(&client, &B, &[2, 3]));
    let output = only_output(&sum, vec![&a, &b]);
    assert_eq!(output.download::<f32>().unwrap(), A_PLUS_B);
    assert!(a.is_donated().unwrap() && !b.is_donated().unwrap());
    assert!(a.download::<f32>().is_err());
    assert!(sum.run(&[vec![&a, &b]]).is_err());
    // The other argument is what it was, and the output can be an argument.
    let again = only_output(&sum, vec![&output, &b]);
    assert_eq!(again.download::<f32>().unwrap()[5], 126.);
}

#[test]
fn replicas_have_their_own_arguments_and_sum_over_each_other() {
    let Some((_plugin, client)) = open(6) else {
        return;
    };
    let devices = client.addressable_devices().unwrap();
    // Not the first ones, and not in their order.
    let chosen = [5, 1, 4, 2].map(|number: usize| &devices[number]);
    let ids = chosen.map(|device| device.id().unwrap());
    let program = compile(&client, SUM_OVER_REPLICAS, &compile_options_for(&ids));
    let arguments: Vec<Buffer> = (0..4)
        .map(|replica| client.upload(&[replica, 10 * replica], &[2], chosen[replica as usize]))
        .collect::<Result<_, _>>()
        .unwrap();
    let outputs = program
        .run(
            &arguments
                .iter()
                .map(|argument| vec![argument])
                .collect::<Vec<_>>(),
        )
        .unwrap();
    for (replica, outputs) in (0..).zip(&outputs) {
        let values: Vec<_> = outputs
            .iter()
            .map(|o| o.download::<i32>().unwrap())
            .collect();
        assert_eq!(values, [[replica, 10 * replica], [6, 60]]);
    }
}

#[test]
fn a_serialised_program_runs_in_another_client() {
    let Some((plugin, client)) = open(1) else {
        return;
    };
    let sum = compile(&client, SUM, &compile_options(1));
    let executable = sum.executable().unwrap();
    assert_eq!(executable.outputs().unwrap(), 1);
    assert_eq!(executable.memory().unwrap().aliased, 24);
    let bytes = executable.serialize().unwrap();
    drop((sum, executable, client));
    let client = plugin.client(&[]).unwrap();
    let (a, b) = (upload(&client, &A, &[2, 3]), upload(&client, &B, &[2, 3]));
    let sum = client.load(&bytes, None).unwrap();
    let output = only_output(&sum, vec![&a, &b]);
    assert_eq!(output.download::<f32>().unwrap(), A_PLUS_B);
    assert!(a.is_donated().unwrap());
    assert!(client.load(&bytes[..bytes.len() / 2], None).is_err());
}

#[test]
fn arrays_and_programs_outlive_their_client_and_may_be_used_by_any_thread() {
    let Some((plugin, client)) = open(1) else {
        return;
    };
    let sum = compile(&client, SUM, &compile_options(1));
    let (a, b) = (upload(&client, &A, &[2, 3]), upload(&client, &B, &[2, 3]));
    drop((plugin, client));
    let output = thread::spawn(move || {
        let output = only_output(&sum, vec![&a, &b]);
        drop((sum, a, b));
        output
    });
    let output = output.join().unwrap();
    assert_eq!(output.download::<f32>().unwrap(), A_PLUS_B);
}

#[test]
fn shared_values_are_given_back_when_the_plugin_has_read_them() {
    let Some((_plugin, client)) = open(1) else {
        return;
    };
    let values = Arc::new(vec![0.5f32; 1 << 20]);
    let device = &client.addressable_devices().unwrap()[0];
    let array = client.upload_shared(Arc::clone(&values), &[1 << 10, 1 << 10], device);
    assert_eq!(array.unwrap().download::<f32>().unwrap(), *values);
    // The plugin tells on a thread of its own.
    let deadline = Instant::now() + PATIENCE;
    while Arc::strong_count(&values) > 1 {
        assert!(Instant::now() < deadline, "the values are still kept");
        thread::yield_now();
    }
}
