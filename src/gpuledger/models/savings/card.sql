-- Cards as their vendors' data sheets state them: year of release, GiB, dense BF16 (else FP16) TFLOP/s, FP8, MIG.
SELECT *
FROM (VALUES
    ('V100', 2017, 32, 125.0, false, false), ('T4', 2018, 16, 65.0, false, false), ('A100', 2020, 80, 312.0, false, true),
    ('A10', 2021, 24, 125.0, false, false), ('A10G', 2021, 24, 70.0, false, false), ('A30', 2021, 24, 165.0, false, true),
    ('A40', 2020, 48, 149.7, false, false), ('H100', 2022, 80, 989.4, true, true), ('H200', 2024, 141, 989.4, true, true),
    ('L4', 2023, 24, 121.0, true, false), ('L40', 2022, 48, 181.0, true, false), ('L40S', 2023, 48, 362.0, true, false),
    ('B200', 2024, 180, 2250.0, true, true), ('B300', 2025, 288, 2250.0, true, true), ('MI300X', 2023, 192, 1307.4, true, false)
) AS t (gpu_model, year, memory_gib, tflops, fp8, mig)
