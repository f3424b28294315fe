-- Resources that charges of use name, and credits on it. What the provider has split already is left alone.
SELECT DISTINCT ResourceId, ResourceName, SubAccountId, HostProviderName
FROM charge
WHERE ResourceId IS NOT NULL
    AND ChargeCategory IN ('Usage', 'Credit')
    AND AllocatedMethodId IS NULL
