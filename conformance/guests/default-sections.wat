;; Block if the view has other sections than those of a module that declares none: 1 to 5 and 8.
(module
  (@custom "portcullis.describe" "{\"name\":\"default-sections\",\"version\":\"1.0.0\",\"abi\":{\"major\":2,\"minor\":0},\"phases\":[\"request\"]}")
  (memory (export "memory") 1)
  (data (i32.const 16) "\01\02\03\04\05\08")

  ;; One region for all that the host writes, behind the data: the memory is grown to hold it.
  (func (export "pc_buffer") (param $len i32) (result i32)
    (local $short i32)
    (local.set $short (i32.sub (i32.add (local.get $len) (i32.const 4096))
      (i32.shl (memory.size) (i32.const 16))))
    (if (i32.gt_s (local.get $short) (i32.const 0))
      (then (if (i32.eq (i32.const -1)
          (memory.grow (i32.shr_u (i32.add (local.get $short) (i32.const 65535)) (i32.const 16))))
        (then (return (i32.const 0))))))
    (i32.const 4096))

  (func (export "pc_request") (param $view i32) (param $len i32) (result i32)
    (local $at i32)
    (if (i32.ne (i32.load offset=8 (local.get $view)) (local.get $len)) (then (return (i32.const 1))))
    (if (i32.ne (i32.load offset=12 (local.get $view)) (i32.const 6)) (then (return (i32.const 1))))
    (loop $next
      (if (i32.ne
          (i32.load16_u (i32.add (local.get $view)
            (i32.add (i32.const 16) (i32.shl (local.get $at) (i32.const 4)))))
          (i32.load8_u offset=16 (local.get $at)))
        (then (return (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 6))))
    (i32.const 0)))
