plugins {
    alias(libs.plugins.android)
    alias(libs.plugins.kotlin)
}

android {
    namespace = "org.trainyard.phone"
    compileSdk = 35

    defaultConfig {
        applicationId = "org.trainyard.phone"
        minSdk = 23
        targetSdk = 35
        versionCode = 1
        versionName = "0.1.0"
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") } // those of the runtime's library
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    androidResources { noCompress += "pte" }
}

kotlin { jvmToolchain(17) }

dependencies {
    implementation(libs.executorch)
}
